package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/watchbox-go/watchbox/internal/hub"
)

// inBody serves a call that takes no body for requests whose body holds its parameters. The body becomes part of the
// query, so that all rules for parameters, also for a token among them, are those of the query. A page of another site
// could send a form without a preflight; the guard refuses it as it refuses that page's GET.
func (a *api) inBody(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		logRoute(r)
		values, err := a.parametersInBody(w, r)
		if err != nil {
			a.hurry(w)
			a.writeProblem(w, r, err)
			return
		}
		next(w, withQuery(r, values))
	}
}

// withQuery returns the request with more parameters in its query, and without a body.
func withQuery(r *http.Request, more url.Values) *http.Request {
	u, r2 := *r.URL, *r
	u.RawQuery = strings.Trim(u.RawQuery+"&"+more.Encode(), "&")
	r2.URL, r2.Body, r2.ContentLength = &u, http.NoBody, 0
	return &r2
}

// formBytes is the smallest limit of a body with parameters. One with many filters may be larger.
const formBytes = 64 << 10

// parametersInBody reads a form or a JSON object. JSON may also be sent with curl's media type.
func (a *api) parametersInBody(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if err := checkEncoding(r); err != nil {
		return nil, err
	}
	media := mediaType(r.Header.Get("Content-Type"))
	switch media {
	case jsonMedia, formMedia, "":
	default:
		return nil, &problem{status: http.StatusUnsupportedMediaType, code: "unsupported-media-type", parameter: "Content-Type",
			detail: "the parameters must be sent as " + formMedia + " or " + jsonMedia}
	}
	most := max(formBytes, a.hub.Options().MaxFilters<<10)
	body, err := a.read(w, r, most, &hub.SizeError{What: "a set of parameters", Max: most})
	if err != nil {
		return nil, err
	}
	defer body.free()
	text := bytes.TrimSpace(body.Bytes())
	if media == jsonMedia || bytes.HasPrefix(text, []byte("{")) { // no parameter's name begins with a brace
		values, err := jsonParameters(text)
		if err != nil {
			return nil, &problem{status: http.StatusBadRequest, code: "body-invalid",
				detail: fmt.Sprintf(`%s: send an object such as {"group":["foo","bar/#"],"last":10}`, err)}
		}
		return values, nil
	}
	values, err := url.ParseQuery(string(text))
	if err != nil {
		return nil, &problem{status: http.StatusBadRequest, code: "body-invalid", detail: "the form does not parse: " + err.Error()}
	}
	return values, nil
}

// jsonParameters returns the members of a JSON object as parameters. A list repeats a parameter.
func jsonParameters(text []byte) (url.Values, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the body is not a JSON object")
	}
	values := url.Values{}
	for d.More() {
		var value any
		name, err := d.Token()
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return nil, fmt.Errorf("the body is not valid JSON: %w", err)
		}
		list, isList := value.([]any)
		if !isList {
			list = []any{value}
		}
		for _, v := range list {
			switch v.(type) {
			case string, json.Number, bool:
				values.Add(name.(string), fmt.Sprint(v))
			default:
				return nil, fmt.Errorf("%.64q is neither a string, a number, a boolean nor a list of them", name)
			}
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("the body is not valid JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the body has more than one JSON value")
	}
	return values, nil
}
