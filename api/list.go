package api

import (
	"bufio"
	"encoding/json"
	"net/http"

	"github.com/watchbox-go/watchbox/store"
)

// writeList answers with an object that ends with a list. begin is the object up to the opening bracket of
// the list. each calls add for each value, and returns the member next, which is left out if it is "". Values
// are written as they come, so that a list of any length takes the memory of one buffer, and a slow client
// delays only its own request.
func (a *api) writeList(w http.ResponseWriter, r *http.Request, begin string, each func(add func(any) error) (next string, err error)) error {
	w.Header()["Content-Type"] = jsonType
	w.Header()["X-Content-Type-Options"] = noSniff
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK) // see explicit
		return nil
	}
	return a.writeLong(w, r, func(out *bufio.Writer) error {
		_, _ = out.WriteString(begin) // a bufio.Writer keeps its first error
		comma := ""
		next, err := each(func(v any) error {
			b, err := json.Marshal(v)
			if err != nil {
				return err
			}
			_, _ = out.WriteString(comma)
			comma = ",\n"
			if _, err = out.Write(b); err != nil {
				return err
			}
			return r.Context().Err()
		})
		if err != nil {
			return err
		}
		_ = out.WriteByte(']')
		if next != "" {
			_, _ = out.Write(store.AppendQuote([]byte(`,"next":`), next))
		}
		_, err = out.WriteString("}\n")
		return err
	})
}
