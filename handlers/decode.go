package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/go-playground/validator/v10"
	"github.com/google/uuid"

	"parlor/room"
)

// decode reads a JSON body into a request struct and validates it. Errors: unsupported_media_type,
// body_timeout, body_too_large, malformed_json, invalid_request.
func (a *api) decode(w http.ResponseWriter, r *http.Request, request any) error {
	if !isJSON(r.Header.Get("Content-Type")) {
		return errNotJSON
	}
	if err := refuseEncoded(r); err != nil {
		return err
	}
	body, err := readBody(w, r)
	if err != nil {
		return bodyProblem(err)
	}
	if err := parse(body, request); err != nil {
		return err
	}
	return a.check(request)
}

// smallBodyBytes is the largest buffer that is allocated for a Content-Length before the body
// arrives. Nearly all messages fit into it.
const smallBodyBytes = 4 << 10

// readBody reads a body of at most maxBodyBytes. A small body is read into a buffer of its
// Content-Length, which net/http enforces.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 || r.ContentLength > smallBodyBytes {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

func isJSON(contentType string) bool {
	if contentType == "application/json" { // the usual spelling
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == "application/json"
}

// refuseEncoded rejects a body that is compressed. Decompressing it could cost a thousand times its
// size. Errors: unsupported_media_type.
func refuseEncoded(r *http.Request) error {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return errEncoded
	}
	return nil
}

// decodeOptional is decode for a request whose body may be missing or empty.
func (a *api) decodeOptional(w http.ResponseWriter, r *http.Request, request any) error {
	empty, err := emptyBody(r)
	switch {
	case err != nil:
		return bodyProblem(err)
	case empty:
		return nil
	}
	return a.decode(w, r, request)
}

// input is a part of a request that an operation reads.
type input string

const (
	inQuery input = "query"
	inBody  input = "body"
)

// refuseUnread returns invalid_request if a request has a query or a body that its operation does
// not read: nothing that a caller sends is ignored. Many clients send {} for a body without fields,
// and so that is none.
func refuseUnread(r *http.Request, read ...input) error {
	var faults []fault
	if !slices.Contains(read, inQuery) {
		faults = readQuery(r).faults
	}
	if !slices.Contains(read, inBody) {
		empty, err := emptyBody(r)
		if err != nil {
			return bodyProblem(err)
		}
		if !empty {
			faults = append(faults, fault{"", "body", "this call has no body: send none"})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return invalid(faults...)
}

// maxEmptyBody is the most bytes of a body that is read to see whether it is empty.
const maxEmptyBody = 64

// emptyBody reports whether a request has no body, or one of white space and at most an empty
// object. Whatever it is, the body can still be read.
func emptyBody(r *http.Request) (bool, error) {
	if r.ContentLength == 0 {
		return true, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxEmptyBody+1))
	if err != nil {
		return false, err
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), r.Body), r.Body}
	text := strings.Join(strings.Fields(string(body)), "")
	return len(body) <= maxEmptyBody && (text == "" || text == "{}"), nil
}

const (
	// maxDepth bounds the nesting of objects and arrays. The deepest valid message has 8 levels.
	maxDepth = 16
	// maxContainers bounds the number of objects and arrays in a body. A valid body reaches
	// maxBodyBytes first: each quoted message has two objects, and at least 90 bytes.
	maxContainers = 8192
)

// checkShape rejects a body whose validation would cost much more than its size suggests: each
// level of nesting makes the pointers of the faults below it longer, and each object may have
// several faults. It runs before the body is decoded.
func checkShape(body []byte) error {
	if bytes.Count(body, []byte("{"))+bytes.Count(body, []byte("[")) <= maxDepth {
		return nil // like nearly all messages
	}
	depth, containers, inString := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString && c == '\\':
			i++ // an escaped quote does not end the string
		case c == '"':
			inString = !inString
		case inString:
		case c == '{', c == '[':
			depth++
			containers++
		case c == '}', c == ']':
			depth--
		}
		if depth > maxDepth {
			return invalid(fault{"", "depth", fmt.Sprintf("is nested more than %d levels deep", maxDepth)})
		}
	}
	if containers > maxContainers {
		return invalid(fault{"", "containers", fmt.Sprintf("contains more than %d objects and arrays", maxContainers)})
	}
	return nil
}

// parse decodes JSON strictly: it rejects unknown and repeated names, null, NUL, invalid UTF-8 and
// lone surrogates. A lenient parser would store something other than what was sent (RFC 8259
// section 8.2, RFC 7493).
func parse(body []byte, request any) error {
	if err := checkShape(body); err != nil {
		return err
	}
	err := json.Unmarshal(body, request, json.RejectUnknownMembers(true))
	if err == nil && !bytes.Contains(body, []byte("null")) && !bytes.Contains(body, []byte(`\u0000`)) {
		return nil
	}
	if fault := scan(body); fault != nil {
		return fault
	}
	var semantic *json.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &semantic) && errors.Is(err, json.ErrUnknownName):
		return invalid(fault{string(semantic.JSONPointer), "unknown", "is not a field of this request"})
	case errors.As(err, &semantic):
		return invalid(fault{string(semantic.JSONPointer), "type", "has the wrong type"})
	}
	return malformed("The body is not valid JSON: encode it with a JSON library.")
}

// scan rejects what no JSON body may contain. The decoder would accept null and NUL, and does not
// distinguish the other mistakes.
func scan(body []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	for {
		token, err := d.ReadToken()
		switch {
		case errors.Is(err, io.EOF) && d.StackDepth() == 0 && d.InputOffset() > 0:
			return nil
		case errors.Is(err, jsontext.ErrDuplicateName):
			return invalid(fault{string(d.StackPointer()), "duplicate", "appears twice"})
		case err != nil:
			return malformed("The body is not valid JSON: encode it with a JSON library.")
		}
		switch token.Kind() {
		case 'n':
			return invalid(fault{string(d.StackPointer()), "type", "is null: leave the field out instead"})
		case '"':
			if strings.ContainsRune(token.String(), 0) {
				return invalid(fault{string(d.StackPointer()), "nul", "contains a NUL character"})
			}
		default:
		}
	}
}

// given returns the value of an optional field, or the zero value if it is absent. The fields are
// pointers because an empty value is not allowed, but an absent one is.
func given[T any](field *T) T {
	if field == nil {
		var absent T
		return absent
	}
	return *field
}

// check validates a request by its validate tags, and cleans the names in it.
func (a *api) check(request any) error {
	err := a.validate.Struct(request)
	failures, ok := errors.AsType[validator.ValidationErrors](err)
	if !ok {
		return err
	}
	var faults []fault
	for _, f := range failures {
		if len(faults) > maxFaults {
			break
		}
		// Namespace is the name of the struct and JSON names, separated by dots, with indices in
		// brackets.
		_, path, _ := strings.Cut(f.Namespace(), ".")
		pointer := "/" + strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(path)
		if pairs, ok := f.Value().(map[string]string); ok && f.Tag() == "pairBytes" {
			faults = append(faults, pairFaults(pointer, pairs, f.Param())...)
			continue
		}
		if f.Tag() == "name" {
			_, bad := room.CleanName(f.Value().(string), number(f.Param()))
			faults = append(faults, fault{pointer, bad.Rule, bad.Message})
			continue
		}
		faults = append(faults, fault{pointer, f.Tag(), ruleText(f)})
	}
	return invalid(faults...)
}

// pairFaults returns the faults of the keys and values at a pointer. bounds are the largest numbers
// of bytes of a key and of a value.
func pairFaults(pointer string, pairs map[string]string, bounds string) (faults []fault) {
	k, v, _ := strings.Cut(bounds, " ")
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		if len(faults) > maxFaults {
			break
		}
		at := pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key) // RFC 6901, section 3
		if key == "" || len(key) > number(k) {
			faults = append(faults, fault{at, "keyBytes", "the key must be 1 to " + k + " bytes"})
		}
		if len(pairs[key]) > number(v) {
			faults = append(faults, fault{at, "maxBytes", "must be at most " + v + " bytes"})
		}
	}
	return faults
}

// newValidator returns a validator with the rules for Parlor's IDs, names and texts.
func newValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name
	})
	rules := map[string]validator.Func{
		"name": func(f validator.FieldLevel) bool {
			if f.Field().String() == "" {
				return true // whether it may be empty is another rule
			}
			name, bad := room.CleanName(f.Field().String(), number(f.Param()))
			if bad == nil {
				f.Field().SetString(name) // here, so that no handler can forget it
			}
			return bad == nil
		},
		"avatarURL": func(f validator.FieldLevel) bool {
			return f.Field().String() == "" || room.ValidAvatarURL(f.Field().String())
		},
		"userID": func(f validator.FieldLevel) bool { return room.UserID(f.Field().String()).Valid() },
		"roomID": func(f validator.FieldLevel) bool { return room.RoomID(f.Field().String()).Valid() },
		"instant": func(f validator.FieldLevel) bool {
			_, ok := room.ParseInstant(f.Field().String())
			return ok
		},
		"maxBytes": func(f validator.FieldLevel) bool { return f.Field().Len() <= number(f.Param()) },
		"pairBytes": func(f validator.FieldLevel) bool {
			pairs, ok := f.Field().Interface().(map[string]string)
			return ok && len(pairFaults("", pairs, f.Param())) == 0
		},
		"totalBytes": func(f validator.FieldLevel) bool {
			pairs, ok := f.Field().Interface().(map[string]string)
			return ok && room.PairsBytes(pairs) <= number(f.Param())
		},
	}
	for tag, rule := range rules {
		if err := v.RegisterValidation(tag, rule); err != nil {
			panic(fmt.Sprintf("validation rule %s: %v", tag, err)) // a mistake in this table
		}
	}
	return v
}

// number parses a bound in a validate tag.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(fmt.Sprintf("validate tag: %v", err)) // a mistake in a struct tag
	}
	return n
}

// ruleText returns the message for a field that violates a rule.
func ruleText(f validator.FieldError) string {
	switch f.Tag() {
	case "required":
		return "is required"
	case "userID":
		return room.UserID(fmt.Sprint(f.Value())).Fault()
	case "roomID":
		return room.RoomID(fmt.Sprint(f.Value())).Fault()
	case "instant":
		return instantRule
	case "avatarURL":
		return "must be an absolute URL with http or https, a host and no user name, in ASCII: percent-encode other characters"
	case "unique":
		return "contains the same value twice"
	case "totalBytes":
		return "must be at most " + f.Param() + " bytes for all keys and values together"
	case "maxBytes":
		return "must be at most " + f.Param() + " bytes"
	case "min":
		return "must be at least " + f.Param() + unit(f)
	case "max":
		return "must be at most " + f.Param() + unit(f)
	case "oneof":
		return "must be one of: " + f.Param()
	}
	return "is not valid"
}

// instantRule is the message for a text that is not a valid instant.
const instantRule = "must be a time in RFC 3339 in the years 0001 to 9999 in UTC, such as 2026-11-21T15:00:00Z"

// unit returns what the bound of a field counts.
func unit(f validator.FieldError) string {
	switch f.Kind() {
	case reflect.String:
		return " characters"
	case reflect.Slice, reflect.Map:
		return " entries"
	default:
		return ""
	}
}

// pathRoomID returns the roomID in the path.
func pathRoomID(r *http.Request) (room.RoomID, error) {
	id := room.RoomID(pathParam(r, "roomID"))
	if wrong := id.Fault(); wrong != "" {
		return "", invalid(fault{"path/roomID", "roomID", wrong})
	}
	return id, nil
}

// pathUserID returns the userID in the path.
func pathUserID(r *http.Request) (room.UserID, error) {
	id := room.UserID(pathParam(r, "userID"))
	if wrong := id.Fault(); wrong != "" {
		return "", invalid(fault{"path/userID", "userID", wrong})
	}
	return id, nil
}

// pathSessionID returns the sessionID in the path.
func pathSessionID(r *http.Request) (room.SessionID, error) {
	id, err := pathUUID(r, "sessionID")
	return room.SessionID(id), err
}

// pathMessageID returns the messageID in the path.
func pathMessageID(r *http.Request) (room.MessageID, error) {
	id, err := pathUUID(r, "messageID")
	return room.MessageID(id), err
}

func pathUUID(r *http.Request, name string) (string, error) {
	id := pathParam(r, name)
	if !validUUID(id) {
		return "", invalid(fault{"path/" + name, "uuid", "must be a UUID in lower case"})
	}
	return id, nil
}

// validUUID reports whether a text is a UUID in the form that Parlor writes. uuid.Parse accepts
// other forms too, which would give one thing several names.
func validUUID(text string) bool {
	id, err := uuid.Parse(text)
	return err == nil && id.String() == text
}

// pathParam returns a decoded segment of the path, or "" if it is malformed, which is no valid ID.
func pathParam(r *http.Request, name string) string {
	text, err := url.PathUnescape(chi.URLParam(r, name))
	if err != nil {
		return ""
	}
	return text
}

// query reads query parameters and collects their faults.
type query struct {
	values url.Values
	faults []fault
}

// repeatable is the suffix of the names of parameters that may be repeated.
const repeatable = "*"

// readQuery parses the query strictly: it rejects unknown parameters, and repeated ones that are
// not repeatable.
func readQuery(r *http.Request, known ...string) *query {
	q := &query{}
	var err error
	if q.values, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		q.fault("", "syntax", "the query string is not well-formed")
	}
	for _, name := range slices.Sorted(maps.Keys(q.values)) {
		if len(q.faults) > maxFaults {
			break
		}
		values := q.values[name]
		if !slices.Contains(known, name) && !slices.Contains(known, name+repeatable) {
			q.fault(name, "unknown", "is not a parameter of this call")
		} else if len(values) > 1 && slices.Contains(known, name) {
			q.fault(name, "duplicate", "appears twice")
		}
	}
	return q
}

func (q *query) fault(name, rule, message string) {
	q.faults = append(q.faults, fault{"query/" + name, rule, message})
}

func (q *query) has(name string) bool { return q.values.Has(name) }

// integer returns an integer within bounds, or the default if there is no such parameter.
func (q *query) integer(name string, least, most, byDefault int64) int64 {
	if !q.has(name) {
		return byDefault
	}
	n, err := strconv.ParseInt(q.values.Get(name), 10, 64)
	if err != nil || n < least || n > most {
		q.fault(name, "range", fmt.Sprintf("must be a whole number from %d to %d", least, most))
		return byDefault
	}
	return n
}

// exclusive rejects the other parameters if the first one is given too.
func (q *query) exclusive(name string, others ...string) {
	for _, other := range others {
		if q.has(name) && q.has(other) {
			q.fault(other, "exclusive", "cannot be combined with "+name)
		}
	}
}

// instant returns a time in RFC 3339 format, or zero if there is no such parameter.
func (q *query) instant(name string) time.Time {
	if !q.has(name) {
		return time.Time{}
	}
	t, ok := room.ParseInstant(q.values.Get(name))
	if !ok {
		q.fault(name, "instant", instantRule)
	}
	if t.IsZero() {
		return t.Add(1) // like the zero time, it is before everything that is stored
	}
	return t
}

// text returns a text of at most maxBytes bytes, or "" if there is no such parameter.
func (q *query) text(name string, maxBytes int) string {
	text := q.values.Get(name)
	switch {
	case len(text) > maxBytes:
		q.fault(name, "maxBytes", fmt.Sprintf("must be at most %d bytes", maxBytes))
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		q.fault(name, "text", "must be UTF-8 without NUL")
	default:
		return text
	}
	return ""
}

// err returns invalid_request with the faults, if there are any.
func (q *query) err() error {
	if len(q.faults) == 0 {
		return nil
	}
	return invalid(q.faults...)
}
