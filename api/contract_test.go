package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// theContract is openapi.yaml. All requests and answers of the tests are checked against it. It records
// which statuses and codes the tests have seen: a documented one that no test has seen fails the package.
var theContract = loadContract()

type contract struct {
	doc   *openapi3.T
	plain map[string]any // the same document without resolved references

	mu      sync.Mutex           // guards what follows
	seen    map[string]bool      // "operation status code", as in unseen
	schemas *jsonschema.Compiler // keeps what it has compiled. openapi3 compiles a schema each time
}

// contractURL is the address of openapi.yaml for its schemas.
const contractURL = "https://example.com/openapi.yaml"

func loadContract() *contract {
	text, err := os.ReadFile("../openapi.yaml")
	c := &contract{seen: map[string]bool{}, schemas: jsonschema.NewCompiler()}
	c.schemas.AssertFormat()
	if err == nil {
		err = yaml.Unmarshal(text, &c.plain)
	}
	if err == nil {
		c.doc, err = openapi3.NewLoader().LoadFromData(text)
	}
	if err == nil {
		err = c.schemas.AddResource(contractURL, c.plain)
	}
	if err != nil {
		panic(err)
	}
	for _, t := range []string{"text/event-stream", "application/x-ndjson", "text/html", "text/javascript", "text/css", "image/svg+xml"} {
		openapi3filter.RegisterBodyDecoder(t, openapi3filter.PlainBodyDecoder)
	}
	return c
}

func TestContractIsValid(t *testing.T) {
	if err := theContract.doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

// route finds a request's operation. A group name or a filter is the rest of the path.
func (c *contract) route(r *http.Request) (*routers.Route, map[string]string) {
	path := r.URL.EscapedPath()
	for _, template := range slices.Sorted(maps.Keys(c.doc.Paths.Map())) {
		params, ok := matchPath(template, path)
		if !ok {
			continue
		}
		item := c.doc.Paths.Value(template)
		op := item.GetOperation(r.Method)
		if op == nil && r.Method == http.MethodHead {
			op = item.Get
		}
		return &routers.Route{Spec: c.doc, Path: template, PathItem: item, Method: r.Method, Operation: op}, params
	}
	return nil, nil
}

func matchPath(template, path string) (map[string]string, bool) {
	params := map[string]string{}
	for {
		t, trest, tmore := strings.Cut(template, "/")
		p, prest, pmore := strings.Cut(path, "/")
		if strings.HasPrefix(t, "{") {
			if !tmore && t != "{uid}" { // a group or filter: the rest of the path
				p, pmore = path, false
			}
			value, err := url.PathUnescape(p)
			if err != nil || value == "" {
				return nil, false
			}
			params[strings.Trim(t, "{}")] = value
		} else if t != p {
			return nil, false
		}
		if !tmore || !pmore {
			return params, tmore == pmore
		}
		template, path = trest, prest
	}
}

// check checks a request and its answer against the contract.
func (c *contract) check(t testing.TB, r *http.Request, sent []byte, status int, header http.Header, body []byte) {
	t.Helper()
	if err := c.conforms(r, sent, status, header, body); err != nil {
		t.Errorf("%s %s: %d does not conform to openapi.yaml: %v\n%.400s", r.Method, r.URL, status, err, body)
	}
}

func (c *contract) conforms(r *http.Request, sent []byte, status int, header http.Header, body []byte) error {
	code, err := c.problem(r, status, header, body)
	if err != nil {
		return err
	}
	route, params := c.route(r)
	switch {
	case r.Method == http.MethodOptions:
		return checkOptions(status, header)
	case route == nil || route.Operation == nil:
		c.note("", status, code)
		return checkUnknown(route, status, header)
	}
	c.note(route.Operation.OperationID, status, code)
	if slices.Contains([]string{"not-found", "internal", "given-up", "cannot-stream", "body-timeout", "server-busy", "program-failed", "token-ambiguous"}, code) {
		return nil // any call may return these
	}
	if route.Operation.Responses.Value(strconv.Itoa(status)) == nil {
		return fmt.Errorf("%s does not document the status", route.Operation.OperationID)
	}
	in := &openapi3filter.RequestValidationInput{
		Request: typed(copyOf(r, sent), route.Operation), PathParams: params, Route: route,
		Options: &openapi3filter.Options{SkipSettingDefaults: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if status < 400 {
		if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
			return fmt.Errorf("a request that openapi.yaml does not allow was accepted: %w", err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: status, Header: header,
		Options: &openapi3filter.Options{ExcludeResponseBody: true, IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(r.Context(), out); err != nil || r.Method == http.MethodHead {
		return err
	}
	return c.checkBody(pointer("paths", route.Path, strings.ToLower(r.Method), "responses", strconv.Itoa(status)), header, body)
}

// checkBody checks the body of an answer against the response at a pointer in openapi.yaml.
func (c *contract) checkBody(response string, header http.Header, body []byte) error {
	if ref, ok := c.at(response)["$ref"].(string); ok {
		response = strings.TrimPrefix(ref, "#")
	}
	documented := object(c.at(response)["content"])
	if len(documented) == 0 {
		return nil
	}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || documented[media] == nil {
		return fmt.Errorf("the media type %q is not documented", header.Get("Content-Type"))
	}
	if object(documented[media])["schema"] == nil {
		return nil
	}
	var v any = string(body)
	if strings.HasSuffix(media, "json") && media != "application/x-ndjson" {
		if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(body)); err != nil {
			return err
		}
	}
	return c.matches(response+pointer("content", media, "schema"), v)
}

// matches checks a value against the schema at a pointer in openapi.yaml.
func (c *contract) matches(schema string, v any) error {
	c.mu.Lock()
	s, err := c.schemas.Compile(contractURL + "#" + schema)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// pointer returns the JSON pointer with some names.
func pointer(names ...string) (p string) {
	for _, name := range names {
		p += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	}
	return p
}

// at returns the object at a pointer in openapi.yaml.
func (c *contract) at(pointer string) map[string]any {
	v := c.plain
	for name := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		v = object(v[strings.NewReplacer("~1", "/", "~0", "~").Replace(name)])
	}
	return v
}

// problem returns the code of a problem, and checks its form.
func (c *contract) problem(r *http.Request, status int, header http.Header, body []byte) (code string, err error) {
	if status < 400 || r.Method == http.MethodHead {
		return "", nil
	}
	if media := header.Get("Content-Type"); media != "application/problem+json" {
		return "", fmt.Errorf("the media type is %q, want application/problem+json", media)
	}
	var p struct {
		Title, Code, Detail string
		Status              int
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return "", err
	}
	if p.Title != http.StatusText(status) || p.Status != status {
		return "", fmt.Errorf("the body has the status %d and title %q", p.Status, p.Title)
	}
	return p.Code, c.fits("Problem", body)
}

func checkOptions(status int, header http.Header) error {
	if status == http.StatusNoContent && header.Get("Allow") == "" && header.Get("Access-Control-Allow-Methods") == "" {
		return fmt.Errorf("the answer to OPTIONS has no Allow")
	}
	return nil
}

func checkUnknown(route *routers.Route, status int, header http.Header) error {
	switch {
	case status == http.StatusForbidden:
		return nil // the guard refuses requests for any path
	case route == nil && status != http.StatusNotFound && status != http.StatusPermanentRedirect && status != http.StatusBadRequest:
		return fmt.Errorf("openapi.yaml has no such path")
	case route != nil && (status != http.StatusMethodNotAllowed || header.Get("Allow") == ""):
		return fmt.Errorf("openapi.yaml has no such method, want 405 with Allow")
	}
	return nil
}

// typed returns the request with the media type of the operation if it has none, or that of a form
// (curl's default). openapi.yaml allows this in descriptions only.
func typed(r *http.Request, op *openapi3.Operation) *http.Request {
	t := r.Header.Get("Content-Type")
	if op.RequestBody == nil || t != "" && t != "application/x-www-form-urlencoded" {
		return r
	}
	content := op.RequestBody.Value.Content
	switch {
	case len(content) == 1:
		r.Header.Set("Content-Type", slices.Collect(maps.Keys(content))[0])
	case content["application/x-www-form-urlencoded"] == nil:
	case isObject(r):
		r.Header.Set("Content-Type", "application/json")
	default:
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

// isObject reports whether a body is a JSON object. r.Body is a copy.
func isObject(r *http.Request) bool {
	body, _ := io.ReadAll(r.Body) // of a buffer, which cannot fail
	r.Body = io.NopCloser(bytes.NewReader(body))
	return bytes.HasPrefix(bytes.TrimSpace(body), []byte("{"))
}

func copyOf(r *http.Request, body []byte) *http.Request {
	c := r.Clone(context.Background())
	c.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) == 0 {
		c.Body = http.NoBody
	}
	return c
}

// fits checks a JSON value against a named schema.
func (c *contract) fits(schema string, value []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return err
	}
	return c.matches(pointer("components", "schemas", schema), v)
}

// checkEvent checks an event's data against the schema for the event's name.
func (c *contract) checkEvent(t testing.TB, name, data string) {
	t.Helper()
	schemas := map[string]string{"session": "SessionEvent", "gap": "Gap", "bye": "ByeEvent"}
	schema, own := schemas[name]
	if !own {
		schema = "Message"
	}
	if err := c.fits(schema, []byte(data)); err != nil {
		t.Errorf("the event %q does not conform to openapi.yaml: %v\n%s", name, err, data)
	}
}

// note records a status and code as seen.
func (c *contract) note(operation string, status int, code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range []string{outcome(operation, strconv.Itoa(status), code), outcome(operation, strconv.Itoa(status), ""), outcome("", "", code)} {
		c.seen[s] = true
	}
}

func outcome(words ...string) string { return strings.TrimSpace(strings.Join(words, " ")) }

// unseen returns the documented statuses and codes that no test has seen.
func (c *contract) unseen() []string {
	want := c.allCodes()
	for _, item := range object(c.plain["paths"]) {
		for method, op := range object(item) {
			name, _ := object(op)["operationId"].(string)
			for status, response := range object(object(op)["responses"]) {
				if status == "default" || method == "parameters" {
					continue
				}
				codes := c.codes(c.resolve(object(response)))
				if len(codes) == 0 {
					want = append(want, outcome(name, status, ""))
				}
				for _, code := range codes {
					want = append(want, outcome(name, status, code))
				}
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	want = slices.DeleteFunc(want, func(s string) bool { return c.seen[s] })
	slices.Sort(want)
	return want
}

// codes returns the problem codes that a response may have.
func (c *contract) codes(response map[string]any) (codes []string) {
	schema := object(object(object(response["content"])["application/problem+json"])["schema"])
	code := object(object(schema["properties"])["code"])
	if one, ok := code["const"].(string); ok {
		codes = append(codes, one)
	}
	list, _ := code["enum"].([]any)
	for _, one := range list {
		codes = append(codes, one.(string))
	}
	return codes
}

// allCodes returns all problem codes.
func (c *contract) allCodes() (codes []string) {
	for _, code := range c.doc.Components.Schemas["Problem"].Value.Properties["code"].Value.Enum {
		codes = append(codes, code.(string))
	}
	return codes
}

// resolve follows a $ref to one of the components.
func (c *contract) resolve(v map[string]any) map[string]any {
	ref, ok := v["$ref"].(string)
	if !ok {
		return v
	}
	return c.at(strings.TrimPrefix(ref, "#"))
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}
