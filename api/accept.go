package api

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// accepted returns the offer that the request's Accept prefers, the first of equals, or "" if it
// takes none (RFC 9110, 12.5.1).
func accepted(r *http.Request, offers ...string) string {
	header := strings.Join(r.Header["Accept"], ",")
	if header == "" {
		return offers[0]
	}
	best, bestQ := "", 0.0
	for _, offer := range offers {
		if q := quality(header, offer); q > bestQ {
			best, bestQ = offer, q
		}
	}
	return best
}

// quality returns what an Accept header gives a media type: the weight of the range that fits it
// closest.
func quality(header, offer string) float64 {
	kind, _, _ := strings.Cut(offer, "/")
	q, closest := 0.0, -1
	for part := range strings.SplitSeq(header, ",") {
		t, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		close := -1
		switch t {
		case offer:
			close = 2
		case kind + "/*":
			close = 1
		case "*/*":
			close = 0
		}
		if close <= closest {
			continue
		}
		closest, q = close, 1
		if s, ok := params["q"]; ok {
			q, _ = strconv.ParseFloat(s, 64) // what does not parse is 0: not wanted
		}
	}
	return q
}
