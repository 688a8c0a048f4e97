package api

import (
	"bufio"
	"net/http"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
)

const (
	jsonMedia   = "application/json"
	formMedia   = "application/x-www-form-urlencoded" // what curl sends unless told otherwise
	ndjsonMedia = "application/x-ndjson"
)

// history answers with what is held, as it is read.
func (a *api) history(w http.ResponseWriter, r *http.Request) error {
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	if err := a.hub.Readable(f); err != nil {
		return err
	}
	q, err := parameters(r, "since", "last", "limit")
	if err != nil {
		return err
	}
	h := hub.History{Filters: group.Set{f}}
	if h.From, err = q.from(hub.From{All: true}); err != nil {
		return err
	}
	limit, err := q.count("limit")
	if err != nil {
		return err
	}
	if limit != nil {
		if h.Limit = *limit; h.Limit == 0 {
			return badParameter("limit", "0 messages are none; leave it out for all")
		}
	}
	media := accepted(r, jsonMedia, ndjsonMedia)
	if media == "" {
		return &problem{status: http.StatusNotAcceptable, code: "not-acceptable", parameter: "Accept",
			detail: "history is " + jsonMedia + " or " + ndjsonMedia}
	}
	if a.hub.Closing() {
		return hub.ErrClosed
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Add("Vary", "Accept")
	w.Header()["X-Content-Type-Options"] = noSniff
	if r.Method == http.MethodHead {
		return nil
	}
	out := bufio.NewWriterSize(w, 32<<10)
	if media == ndjsonMedia {
		err = a.writeLines(r, out, &h)
	} else {
		err = a.writeHistory(r, out, &h)
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the status is sent: only a cut connection tells that some is missing
	}
	return nil
}

// writeLines writes a message per line, and a gap as {"gap":…} where it lies.
func (a *api) writeLines(r *http.Request, out *bufio.Writer, h *hub.History) error {
	_, err := a.hub.Replay(r.Context(), h,
		func(f *store.Frame) error {
			_, _ = out.Write(f.Data()) // a bufio.Writer keeps its first error
			return out.WriteByte('\n')
		},
		func(g delivery.Gap) error {
			_, err := out.Write(append(g.AppendJSON([]byte(`{"gap":`)), "}\n"...))
			return err
		})
	return err
}

// writeHistory writes one object with all messages. Gaps are known when they have been read, and
// stand at its end.
func (a *api) writeHistory(r *http.Request, out *bufio.Writer, h *hub.History) error {
	comma := `{"messages":[`
	var gaps []byte
	next, err := a.hub.Replay(r.Context(), h,
		func(f *store.Frame) error {
			_, _ = out.WriteString(comma)
			comma = ",\n"
			_, err := out.Write(f.Data())
			return err
		},
		func(g delivery.Gap) error {
			if len(gaps) > 0 {
				gaps = append(gaps, ',')
			}
			gaps = g.AppendJSON(gaps)
			return nil
		})
	if err != nil {
		return err
	}
	if comma != ",\n" {
		_, _ = out.WriteString(comma)
	}
	_ = out.WriteByte(']')
	if len(gaps) > 0 {
		_, _ = out.WriteString(`,"gaps":[` + string(gaps) + `]`)
	}
	if next != nil {
		_, _ = out.WriteString(`,"next":"` + next.String() + `"`)
	}
	_, err = out.WriteString("}\n")
	return err
}
