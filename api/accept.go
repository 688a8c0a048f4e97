package api

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// accepted returns the offered media type that the request's Accept header prefers, or "" if the
// header excludes all of them (RFC 9110, section 12.5.1). Of equals, the first offer wins.
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

// quality returns the weight that an Accept header gives a media type: that of the most specific
// range that matches.
func quality(header, offer string) float64 {
	kind, _, _ := strings.Cut(offer, "/")
	q, specific := 0.0, -1
	for part := range strings.SplitSeq(header, ",") {
		t, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		match := -1
		switch t {
		case offer:
			match = 2
		case kind + "/*":
			match = 1
		case "*/*":
			match = 0
		}
		if match <= specific {
			continue
		}
		specific, q = match, 1
		if s, ok := params["q"]; ok {
			q, _ = strconv.ParseFloat(s, 64) // 0, which means not acceptable, if it does not parse
		}
	}
	return q
}
