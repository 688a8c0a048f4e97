package remote

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// MetaInHeaders returns the metadata of a message as receivers get it if it is sent in headers: with names in lower case,
// sorted by name. It returns an error if headers cannot carry a name, or would change a value.
func MetaInHeaders(meta [][2]string) ([][2]string, error) {
	out := make([][2]string, len(meta))
	for i, p := range meta {
		name, value := p[0], p[1]
		if name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_.$") != "" {
			return nil, fmt.Errorf("the name %.64q of metadata must have letters, digits, -, _ and . only, unless it is sent in a batch", name)
		}
		if strings.Trim(value, " \t") != value || strings.ContainsFunc(value, isControl) || !utf8.ValidString(value) {
			return nil, fmt.Errorf("the value %.64q of metadata begins or ends with a space, has control characters or is not UTF-8", value)
		}
		out[i] = [2]string{strings.ToLower(name), value}
	}
	slices.SortStableFunc(out, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
	return out, nil
}

func isControl(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }

// AddMeta adds the headers for metadata that MetaInHeaders has returned.
func AddMeta(h http.Header, meta [][2]string) {
	for _, p := range meta {
		h.Add("Watchbox-Meta-"+p[0], p[1])
	}
}
