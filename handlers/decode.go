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

// decode reads a JSON body into a request and validates it. Errors:
// unsupported_media_type, body_timeout, body_too_large, malformed_json,
// invalid_request.
func (a *api) decode(w http.ResponseWriter, r *http.Request, request any) error {
	if !isJSON(r.Header.Get("Content-Type")) {
		return errNotJSON
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

// smallBodyBytes is the most memory that a caller gets for only announcing a body.
// Nearly all messages are smaller.
const smallBodyBytes = 4 << 10

// readBody reads a body of at most maxBodyBytes. A small one is read into memory of
// its size; net/http lets no more come than was announced.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 || r.ContentLength > smallBodyBytes {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

func isJSON(contentType string) bool {
	if contentType == "application/json" { // as nearly everybody writes it
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == "application/json"
}

// decodeOptional is decode for a request that may come without a body.
func (a *api) decodeOptional(w http.ResponseWriter, r *http.Request, request any) error {
	if r.ContentLength == 0 {
		return nil
	}
	return a.decode(w, r, request)
}

const (
	// maxDepth bounds how deep objects and arrays stand in each other. Messages
	// that are combined as deep as they may be have 8 levels.
	maxDepth = 16
	// maxContainers bounds how many objects and arrays a body holds. Combined
	// messages have two objects each, of 90 bytes or more, so that a body is full
	// before it holds as many.
	maxContainers = 8192
)

// checkShape refuses a body whose validation would cost much more than its bytes:
// each level of nesting makes the pointers of the faults below it longer, and each
// object may have several faults. It runs before the body is decoded.
func checkShape(body []byte) error {
	if bytes.Count(body, []byte("{"))+bytes.Count(body, []byte("[")) <= maxDepth {
		return nil // as nearly all messages are
	}
	depth, containers, inString := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString && c == '\\':
			i++ // what is escaped ends no string
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

// parse reads JSON strictly: unknown and repeated names, null, NUL, invalid
// UTF-8 and lone surrogates are refused. A lenient reader would store something
// else than was sent (RFC 8259 section 8.2, RFC 7493).
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

// scan refuses what no request may hold, whatever its fields. Of that, decoding
// lets null and NUL pass, and does not tell the rest apart.
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

// given is the value of a field that may be absent, which is then the zero
// value. Only a pointer tells absent from empty, which may not be sent.
func given[T any](field *T) T {
	if field == nil {
		var absent T
		return absent
	}
	return *field
}

// check applies the validate tags of a request.
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
		// Namespace is the struct's name, then JSON names, divided by dots, and
		// indices in brackets.
		_, path, _ := strings.Cut(f.Namespace(), ".")
		pointer := "/" + strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(path)
		if pairs, ok := f.Value().(map[string]string); ok && f.Tag() == "pairBytes" {
			faults = append(faults, pairFaults(pointer, pairs, f.Param())...)
			continue
		}
		faults = append(faults, fault{pointer, f.Tag(), ruleText(f)})
	}
	return invalid(faults...)
}

// pairFaults is what is wrong with the keys and values that stand at a pointer.
// bounds is how many bytes a key and a value may have.
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

// newValidator knows the rules that Parlor's names and texts follow.
func newValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name
	})
	rules := map[string]validator.Func{
		"userID":   func(f validator.FieldLevel) bool { return room.UserID(f.Field().String()).Valid() },
		"roomID":   func(f validator.FieldLevel) bool { return room.RoomID(f.Field().String()).Valid() },
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

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(fmt.Sprintf("validate tag: %v", err)) // a mistake in a struct tag
	}
	return n
}

func ruleText(f validator.FieldError) string {
	switch f.Tag() {
	case "required":
		return "is required"
	case "userID", "roomID":
		return "must be a valid ID: see " + f.Tag() + " in openapi.yaml"
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

// unit is what the bound of a field counts.
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

// pathRoomID is the room that the path names.
func pathRoomID(r *http.Request) (room.RoomID, error) {
	id := room.RoomID(pathParam(r, "roomID"))
	if !id.Valid() {
		return "", invalid(fault{"path/roomID", "roomID", "must be a valid ID: see RoomID in openapi.yaml"})
	}
	return id, nil
}

// pathUserID is the user that the path names.
func pathUserID(r *http.Request) (room.UserID, error) {
	id := room.UserID(pathParam(r, "userID"))
	if !id.Valid() {
		return "", invalid(fault{"path/userID", "userID", "must be a valid ID: see UserID in openapi.yaml"})
	}
	return id, nil
}

// pathSessionID is the session that the path names.
func pathSessionID(r *http.Request) (room.SessionID, error) {
	id, err := pathUUID(r, "sessionID")
	return room.SessionID(id), err
}

// pathMessageID is the message that the path names.
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

// validUUID reports whether a text is a UUID as it is written here. Parse takes
// other forms as well; one thing has one name.
func validUUID(text string) bool {
	id, err := uuid.Parse(text)
	return err == nil && id.String() == text
}

// pathParam is a segment of the path, decoded. One that is not well-formed is
// empty, which nothing is called.
func pathParam(r *http.Request, name string) string {
	text, err := url.PathUnescape(chi.URLParam(r, name))
	if err != nil {
		return ""
	}
	return text
}

// query reads query parameters and gathers what is wrong with them.
type query struct {
	values url.Values
	faults []fault
}

// repeatable ends the name of a parameter that may stand more than once.
const repeatable = "*"

// readQuery parses the query strictly and refuses parameters that the call does
// not know, and all but repeatable ones that stand twice.
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

// integer is a whole number within bounds, or otherwise what stands for absent.
func (q *query) integer(name string, least, most, otherwise int64) int64 {
	if !q.has(name) {
		return otherwise
	}
	n, err := strconv.ParseInt(q.values.Get(name), 10, 64)
	if err != nil || n < least || n > most {
		q.fault(name, "range", fmt.Sprintf("must be a whole number from %d to %d", least, most))
		return otherwise
	}
	return n
}

// apart refuses parameters that mean nothing beside another one.
func (q *query) apart(name string, others ...string) {
	for _, other := range others {
		if q.has(name) && q.has(other) {
			q.fault(other, "exclusive", "cannot be combined with "+name)
		}
	}
}

// instant is an instant as RFC 3339 writes it, zero where it is absent.
func (q *query) instant(name string) time.Time {
	if !q.has(name) {
		return time.Time{}
	}
	var t time.Time
	text := q.values.Get(name)
	// Package time takes a comma for a point; RFC 3339 does not.
	if err := t.UnmarshalText([]byte(text)); err != nil || t.IsZero() || strings.Contains(text, ",") {
		q.fault(name, "instant", "must be a time in RFC 3339, such as 2026-11-21T15:00:00Z")
	}
	return t
}

// text is a text of at most so many bytes, empty where it is absent.
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

// err is invalid_request where something was wrong.
func (q *query) err() error {
	if len(q.faults) == 0 {
		return nil
	}
	return invalid(q.faults...)
}
