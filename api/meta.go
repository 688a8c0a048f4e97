package api

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/watchbox-go/watchbox/internal/hub"
)

// metaHeader is the start of the headers that carry a message's metadata. The name of a pair follows.
const metaHeader = "Watchbox-Meta-"

// metadata returns the pairs that the headers carry. HTTP does not tell the case of a header's name, and
// net/http not the order of headers with different names. So names are in lower case, and pairs are
// sorted by name; those with the same name stay in the order of the request.
func metadata(r *http.Request) (meta [][2]string, err error) {
	for header, values := range r.Header {
		name, ok := strings.CutPrefix(header, metaHeader)
		if !ok {
			continue
		}
		for _, v := range values {
			meta = append(meta, [2]string{strings.ToLower(name), v})
		}
	}
	slices.SortStableFunc(meta, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
	return meta, hub.CheckMetaNames(meta)
}

// noMetadata refuses headers with metadata for a call whose body has it.
func noMetadata(r *http.Request) error {
	for header := range r.Header {
		if strings.HasPrefix(header, metaHeader) {
			return &problem{status: http.StatusBadRequest, code: "meta-invalid", parameter: header,
				detail: `this call takes no headers ` + metaHeader + `…: give the message's object a member such as "meta":[["name","value"]]`}
		}
	}
	return nil
}
