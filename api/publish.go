package api

import (
	"fmt"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// publish publishes the request's body to a group.
func (a *api) publish(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	name, err := rest(r)
	if err != nil {
		return err
	}
	if err := group.CheckClient(name); err != nil { // before the body is read
		return err
	}
	if err := g.CheckPublish(name); err != nil {
		return err
	}
	return a.accept(w, r, g, []string{"event", "ttl", "retain"}, bodyKind, func(p *hub.Publication) error {
		p.Group = name
		receipt, err := a.hub.Publish(r.Context(), p)
		if err != nil {
			return err
		}
		return writeReceipt(w, &receipt, p.Kind)
	})
}

// publishBatch publishes messages to several groups.
func (a *api) publishBatch(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	if err := noMetadata(r); err != nil {
		return err
	}
	return a.accept(w, r, g, nil, batchKind, func(p *hub.Publication) error {
		receipt, err := a.hub.PublishBatch(r.Context(), p)
		if err != nil {
			return err
		}
		return writeReceipt(w, &receipt, p.Kind)
	})
}

// accept reads a publication from the request and passes it to do. names are the call's parameters;
// kind returns the kind of the body. The body is valid until do returns.
func (a *api) accept(
	w http.ResponseWriter, r *http.Request, g *access.Grant, names []string, kind func(*http.Request) (hub.Kind, error), do func(*hub.Publication) error,
) error {
	p, err := publication(r, names)
	if err != nil {
		return err
	}
	p.Grant = g
	if p.Kind, err = kind(r); err != nil {
		return err
	}
	b, err := a.read(w, r, a.hub.MaxBody(p.Kind), a.hub.TooLarge(p.Kind))
	if err != nil {
		return err
	}
	defer b.free()
	p.Body = b.Bytes()
	begun := a.hub.PublishBegun()
	if err := do(&p); err != nil {
		return err
	}
	a.hub.PublishEnded(begun)
	return nil
}

func writeReceipt(w http.ResponseWriter, r *hub.Receipt, kind hub.Kind) error {
	markReplayed(w, r)
	writeJSON(w, http.StatusCreated, appendReceipt(make([]byte, 0, receiptLen+len(r.Group)), r, kind))
	return nil
}

// receiptLen is the usual length of the receipt for one message, without the group.
const receiptLen = 96

// markReplayed sets a header if the answer repeats an earlier one.
func markReplayed(w http.ResponseWriter, r *hub.Receipt) {
	if r.Replayed {
		w.Header().Set(replayedHeader, "true")
	}
}

func appendReceipt(b []byte, r *hub.Receipt, kind hub.Kind) []byte {
	b = append(b, `{"id":"`...)
	b = r.ID.Append(b)
	if kind != hub.Batch {
		b = append(b, `","group":`...)
		b = store.AppendQuote(b, r.Group)
		b = append(b, `,"time":"`...)
	} else {
		b = append(b, `","time":"`...)
	}
	b = store.AppendTime(b, r.Time)
	b = append(b, '"')
	if kind == hub.Lines || kind == hub.Batch {
		b = append(b, `,"first":"`...)
		b = r.First.Append(b)
		b = append(b, `","count":`...)
		b = strconv.AppendInt(b, int64(r.Count), 10)
	}
	return append(b, "}\n"...)
}

// publication returns the publication without its group and body.
func publication(r *http.Request, names []string) (p hub.Publication, err error) {
	q, err := parameters(r, names...)
	if err != nil {
		return p, err
	}
	if p.Event, err = eventName(q); err != nil {
		return p, err
	}
	if p.TTL, err = q.duration("ttl", hub.TTLs); err != nil {
		return p, err
	}
	if p.Retain, err = q.flag("retain", false); err != nil {
		return p, err
	}
	if p.Meta, err = metadata(r); err != nil {
		return p, err
	}
	secret, err := query{}.secret(r)
	if err != nil {
		return p, err
	}
	if secret != "" {
		p.UID = session.UID(secret)
	}
	if p.Key, err = idempotencyKey(r); err != nil {
		return p, err
	}
	p.Address = host(r.RemoteAddr)
	return p, nil
}

func eventName(q query) (string, error) {
	name, ok := q.has("event")
	if !ok {
		return "", nil
	}
	return hub.EventName(name)
}

// maxKey is the longest idempotency key, in bytes.
const maxKey = 128

func idempotencyKey(r *http.Request) (string, error) {
	list := r.Header[idempotencyHeader]
	if len(list) == 0 {
		return "", nil
	}
	key := list[0]
	ok := len(list) == 1 && key != "" && len(key) <= maxKey
	for _, c := range []byte(key) {
		ok = ok && c > ' ' && c <= '~'
	}
	if !ok {
		return "", &problem{status: http.StatusBadRequest, code: "idempotency-key-invalid", parameter: idempotencyHeader,
			detail: fmt.Sprintf("an idempotency key is 1 to %d visible ASCII characters, such as a UUID", maxKey)}
	}
	return key, nil
}

// bodyKind returns the kind of body for the media type.
func bodyKind(r *http.Request) (hub.Kind, error) {
	switch mediaType(r.Header.Get("Content-Type")) {
	case jsonMedia:
		return hub.JSON, checkEncoding(r)
	case ndjsonMedia:
		return hub.Lines, checkEncoding(r)
	}
	return hub.Bytes, checkEncoding(r)
}

// batchKind checks the media type of a batch. It accepts bodies without a type and with curl's default
// one.
func batchKind(r *http.Request) (hub.Kind, error) {
	switch mediaType(r.Header.Get("Content-Type")) {
	case ndjsonMedia, "", formMedia:
		return hub.Batch, checkEncoding(r)
	}
	return hub.Batch, &problem{status: http.StatusUnsupportedMediaType, code: "unsupported-media-type", parameter: "Content-Type",
		detail: "a batch must be sent as " + ndjsonMedia + ", with one JSON object per line"}
}

// checkEncoding refuses a compressed body.
func checkEncoding(r *http.Request) error {
	enc := strings.Join(r.Header["Content-Encoding"], ", ")
	if enc == "" || strings.EqualFold(enc, "identity") {
		return nil
	}
	return &problem{status: http.StatusUnsupportedMediaType, code: "unsupported-media-type", parameter: "Content-Encoding",
		detail: fmt.Sprintf("the body is encoded as %.64q: send it without an encoding", enc)}
}

func mediaType(s string) string {
	switch s {
	case "", "text/plain", jsonMedia, formMedia: // nothing to parse
		return s
	}
	t, _, _ := mime.ParseMediaType(s)
	return t
}

// host returns an address without its port.
func host(addr string) string {
	h, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return h
}
