package servicetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	contract "parlor"
)

// openapi returns the parsed contract. Its replies and events are closed, so that the tests find
// every field that the contract lacks.
var openapi = sync.OnceValue(func() *openapi3.T {
	doc := parseContract()
	for _, placed := range schemasOf(doc) {
		// A variant of an object is closed together with the fields that all variants have. The
		// object itself checks their values.
		for _, variant := range placed.schema.OneOf {
			for name := range placed.schema.Properties {
				if variant.Value.Properties[name] == nil {
					variant.Value.Properties[name] = openapi3.NewSchemaRef("", openapi3.NewSchema())
				}
			}
		}
	}
	for _, placed := range schemasOf(doc) {
		if s := placed.schema; !placed.sent && s.OneOf == nil && s.Type.Is("object") && s.AdditionalProperties.Schema == nil && len(s.Properties) > 0 {
			s.AdditionalProperties.Has = new(false)
		}
	}
	return doc
})

func parseContract() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData(contract.Contract)
	if err != nil {
		panic(fmt.Sprintf("openapi.yaml: %v", err))
	}
	return doc
}

// formats are the formats of strings, as this contract uses them.
var formats = []openapi3.SchemaValidationOption{
	openapi3.WithStringFormatValidator("uuid",
		openapi3.NewRegexpFormatValidator(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)),
	openapi3.WithStringFormatValidator("byte",
		openapi3.NewRegexpFormatValidator(`^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$`)),
	// RFC 3339 allows lower case, the validator's own form does not.
	openapi3.WithStringFormatValidator("date-time",
		openapi3.NewRegexpFormatValidator(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$`)),
}

// operation returns the contract's operation for a request. The path is matched in its encoded
// form, because an encoded slash is part of its segment.
func operation(r *http.Request) (route *routers.Route, parameters map[string]string, found bool) {
	sent := strings.Split(r.URL.EscapedPath(), "/")
	for path, item := range openapi().Paths.Map() {
		matched, ok := matchPath(strings.Split(path, "/"), sent)
		if !ok {
			continue
		}
		// If several paths match, the one with fewer parameters wins, as in the router.
		if op := item.Operations()[r.Method]; op != nil && (!found || len(matched) < len(parameters)) {
			route = &routers.Route{
				Spec: openapi(), Path: path, PathItem: item, Method: r.Method, Operation: op,
			}
			parameters, found = matched, true
		}
	}
	return route, parameters, found
}

func matchPath(template, sent []string) (map[string]string, bool) {
	if len(template) != len(sent) {
		return nil, false
	}
	parameters := make(map[string]string)
	for i, segment := range template {
		if name, ok := strings.CutPrefix(segment, "{"); ok && sent[i] != "" {
			parameters[strings.TrimSuffix(name, "}")] = unescape(sent[i])
		} else if segment != sent[i] {
			return nil, false
		}
	}
	return parameters, true
}

// checked is a transport that checks each exchange against the contract.
type checked struct {
	t    testing.TB
	next http.RoundTripper
}

func (c *checked) RoundTrip(r *http.Request) (*http.Response, error) {
	sent, err := drain(r.Body)
	if err != nil {
		return nil, err
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	reply, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	var got []byte
	if mediaType(reply) != "text/event-stream" {
		if got, err = drain(reply.Body); err != nil {
			return nil, err
		}
		reply.Body = io.NopCloser(bytes.NewReader(got))
	}
	call := r.Method + " " + r.URL.EscapedPath()
	for _, err := range []error{
		checkHeaders(reply), checkSecrecy(got), checkProblem(reply, got), checkContract(r, sent, reply, got),
	} {
		if err != nil {
			c.t.Errorf("%s: %d: %v\nsent: %.300q\ngot:  %.300q", call, reply.StatusCode, err, sent, got)
		}
	}
	return reply, nil
}

func drain(body io.ReadCloser) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	b, err := io.ReadAll(body)
	return b, errors.Join(err, body.Close())
}

func mediaType(reply *http.Response) string {
	t, _, _ := strings.Cut(reply.Header.Get("Content-Type"), ";")
	return t
}

// checkHeaders checks the headers that every reply must have.
func checkHeaders(reply *http.Response) error {
	h := reply.Header
	switch {
	case h.Get("X-Content-Type-Options") != "nosniff":
		return errors.New("the content type may be guessed")
	case !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'"):
		return fmt.Errorf("Content-Security-Policy is %q", h.Get("Content-Security-Policy"))
	case h.Get("Referrer-Policy") != "no-referrer":
		return errors.New("addresses may leak to other sites")
	case h.Get("X-Request-ID") == "":
		return errors.New("the reply has no request ID")
	case strings.HasSuffix(mediaType(reply), "json") && h.Get("Cache-Control") != "no-store":
		return errors.New("the reply may be cached")
	}
	return nil
}

// internals returns words that only the log may contain.
var internals = sync.OnceValue(func() []string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return []string{
		"SQLSTATE", "pgx", "pgconn", "parlor/", ".go:", "goroutine ", filepath.Dir(dir), "/home/", "/root/", "/tmp/", "/usr/", "/var/",
	}
})

// signature is the end of a signed URL. Its random letters can contain any word by chance.
var signature = regexp.MustCompile(`signature=[A-Za-z0-9_-]+`)

func checkSecrecy(got []byte) error {
	got = signature.ReplaceAll(got, nil)
	for _, text := range internals() {
		if bytes.Contains(got, []byte(text)) {
			return fmt.Errorf("the reply reveals the internal word %q", text)
		}
	}
	return nil
}

// checkProblem checks what every problem must have.
func checkProblem(reply *http.Response, got []byte) error {
	if reply.StatusCode < 400 || reply.Request.Method == http.MethodHead {
		return nil
	}
	if mediaType(reply) != "application/problem+json" {
		return fmt.Errorf("the problem has Content-Type %q", reply.Header.Get("Content-Type"))
	}
	if err := matches("Problem", got); err != nil {
		return err
	}
	var p problem
	if err := json.Unmarshal(got, &p); err != nil {
		return err
	}
	needs := map[int]string{
		http.StatusUnauthorized: "WWW-Authenticate", http.StatusMethodNotAllowed: "Allow", http.StatusServiceUnavailable: "Retry-After",
		http.StatusTooManyRequests: "Retry-After",
	}
	header := needs[reply.StatusCode]
	switch {
	case p.Status != reply.StatusCode || p.Title != http.StatusText(p.Status):
		return fmt.Errorf("the problem has status %d and title %s", p.Status, p.Title)
	case p.Type != "/docs/errors#"+p.Code:
		return fmt.Errorf("the problem has type %q", p.Type)
	case p.RequestID != reply.Header.Get("X-Request-ID"):
		return errors.New("the problem and the header name different requests")
	case header != "" && reply.Header.Get(header) == "":
		return fmt.Errorf("the reply has no %s", header)
	}
	return nil
}

// checkContract checks a reply against the schema for its status, and the request if it was
// accepted. Paths that are not in the contract are ignored.
func checkContract(r *http.Request, sent []byte, reply *http.Response, got []byte) error {
	route, parameters, found := operation(r)
	if !found {
		return nil
	}
	seen.reply(route.Operation.OperationID, reply.StatusCode)

	asked := r.Clone(context.Background())
	asked.Body = io.NopCloser(bytes.NewReader(sent))
	// A file is accepted with the media type of any file, though clients are told to send this one.
	if route.Operation.OperationID == "uploadMedia" && !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") && len(sent) > 0 {
		asked.Header.Set("Content-Type", "application/octet-stream")
	}
	options := &openapi3filter.Options{
		IncludeResponseStatus: true, SkipSettingDefaults: true, AuthenticationFunc: authenticated,
		SchemaValidationOptions: formats,
	}
	request := &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: parameters, QueryParams: r.URL.Query(), Route: route, Options: options,
	}
	// Only where a fault decides something: describing those of a hostile body takes a gigabyte.
	if accepted := reply.StatusCode < 400; accepted || refusedBySchema(got) {
		fault := openapi3filter.ValidateRequest(context.Background(), request)
		switch {
		case accepted && fault != nil:
			return fmt.Errorf("the server accepted a request that violates the contract: %w", fault)
		case !accepted && fault == nil:
			return errors.New("refused, though the contract allows it")
		}
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request, Status: reply.StatusCode, Header: reply.Header,
		Body: io.NopCloser(bytes.NewReader(got)), Options: options,
	})
}

// refusedBySchema reports whether a problem has only faults that a schema can express as well.
func refusedBySchema(got []byte) bool {
	var p problem
	if json.Unmarshal(got, &p) != nil || p.Code != "invalid_request" {
		return false
	}
	for _, f := range p.Errors {
		expressible := slices.Contains([]string{"required", "type", "min", "max", "oneof", "range", "unique", "unknown", "missing", "forbidden"}, f.Rule)
		// The same request is sent to rooms and to users, who cannot receive all of it.
		peer := f.Rule == "forbidden" && (strings.HasSuffix(f.Pointer, "/to") || strings.HasSuffix(f.Pointer, "/kind"))
		if !expressible || peer || f.Rule == "unknown" && strings.HasPrefix(f.Pointer, "query/") {
			return false
		}
	}
	return true
}

// authenticated reports whether a request carries the credentials that a security scheme requires.
func authenticated(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	r := in.RequestValidationInput.Request
	switch in.SecuritySchemeName {
	case "sessionKey":
		if scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") && key != "" {
			return nil
		}
	case "adminToken":
		if _, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.Count(token, ".") == 2 {
			return nil
		}
	case "streamKey":
		if r.URL.Query().Get("stream_key") != "" {
			return nil
		}
	case "streamTicket":
		if r.URL.Query().Get("stream_ticket") != "" {
			return nil
		}
	}
	return errors.New("the request has no " + in.SecuritySchemeName)
}

// matches checks JSON against one of the contract's schemas.
func matches(schema string, data []byte) error {
	ref := openapi().Components.Schemas[schema]
	if ref == nil {
		return fmt.Errorf("the contract has no schema %s", schema)
	}
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return err
	}
	return ref.Value.VisitJSON(value, append(formats, openapi3.VisitAsResponse())...)
}

// seen records which parts of the contract the run has seen.
var seen coverage

type coverage struct {
	mu   sync.Mutex // guards what
	what map[string]bool
}

func (c *coverage) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.what == nil {
		c.what = make(map[string]bool)
	}
	c.what[what] = true
}

func (c *coverage) reply(operationID string, status int) {
	c.add(fmt.Sprintf("the status %d of %s", status, operationID))
}

func (c *coverage) event(operationID, name string) { c.add("the event " + name + " of " + operationID) }

// gaps returns everything that the contract declares and no test has seen.
func (c *coverage) gaps() []string {
	var gaps []string
	for what := range declared() {
		if !c.what[what] {
			gaps = append(gaps, what)
		}
	}
	slices.Sort(gaps)
	return gaps
}

// declared returns everything that a run must see.
func declared() map[string]bool {
	var all coverage
	for _, item := range openapi().Paths.Map() {
		for _, op := range item.Operations() {
			for status := range op.Responses.Map() {
				all.add("the status " + status + " of " + op.OperationID)
			}
		}
	}
	for operationID, events := range declaredEvents() {
		for name := range events {
			all.event(operationID, name)
		}
	}
	return all.what
}
