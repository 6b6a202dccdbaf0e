package auth

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"parlor/room"
)

// ClockSkew is how far the clock of a backend that signs tokens may differ from the server's: iat
// and nbf may be that far ahead, and exp that far in the past (RFC 7519, sections 4.1.4 to 4.1.6).
const ClockSkew = time.Minute

// maxYear is the last year that RFC 3339 can represent.
const maxYear = 9999

// ScopeAdmin is the scope of admin tokens.
const ScopeAdmin = "admin"

// claims are the claims of a token as they are encoded. A claim that is null is missing, except
// those that grant something.
type claims struct {
	Issuer    string                 `json:"iss,omitempty"`
	Subject   string                 `json:"sub,omitempty"`
	Audience  audience               `json:"aud,omitempty"`
	ExpiresAt *numericDate           `json:"exp,omitempty"`
	NotBefore *numericDate           `json:"nbf,omitempty"`
	IssuedAt  *numericDate           `json:"iat,omitempty"`
	Name      string                 `json:"name,omitempty"`
	Scope     string                 `json:"scope,omitempty"`
	Rooms     grantList[room.Grant]  `json:"rooms,omitzero"`
	Peers     grantList[room.UserID] `json:"peers,omitzero"`
	Media     jsontext.Value         `json:"media,omitempty"`
	Profile   jsontext.Value         `json:"updateProfile,omitempty"`
}

// numericDate is an instant in whole seconds since 1970.
type numericDate struct{ time.Time }

// seconds returns an instant as a numericDate.
func seconds(instant time.Time) *numericDate { return &numericDate{instant.Truncate(time.Second)} }

// MarshalJSON implements json.Marshaler.
func (d numericDate) MarshalJSON() ([]byte, error) { return strconv.AppendInt(nil, d.Unix(), 10), nil }

// UnmarshalJSON drops fractions of a second.
func (d *numericDate) UnmarshalJSON(b []byte) error {
	if jsontext.Value(b).Kind() != '0' {
		return fault("is not a number: it must be in seconds since 1970, without quotes")
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.Abs(f) > math.MaxInt32*1e6 || !inYears(time.Unix(int64(f), 0)) {
		return fault("is out of range: it must be in seconds since 1970, not in milliseconds")
	}
	d.Time = time.Unix(int64(f), 0)
	return nil
}

// inYears reports whether RFC 3339 can represent an instant.
func inYears(instant time.Time) bool {
	year := instant.UTC().Year()
	return year >= 0 && year <= maxYear
}

// audience is one string or a list of strings.
type audience []string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (a *audience) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '"' {
		return json.UnmarshalDecode(d, (*[]string)(a))
	}
	*a = make(audience, 1)
	return json.UnmarshalDecode(d, &(*a)[0])
}

// grantList is the claim rooms or peers. A missing claim can mean that everything is allowed, and
// an empty list allows nothing. null, which a backend may write for either, is rejected.
type grantList[T any] []T

// UnmarshalJSONFrom rejects null.
func (l *grantList[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		return fault("is null: leave it out, or write [] to grant nothing")
	}
	return json.UnmarshalDecode(d, (*[]T)(l))
}

// fault is what is wrong with a part of a token, as the end of a sentence that begins with the name
// of that part.
type fault string

func (f fault) Error() string { return string(f) }

// decodeClaims decodes claims strictly, because parsers disagree about duplicate names and names in
// another case.
func decodeClaims(text []byte) (claims, error) {
	var c claims
	if err := json.Unmarshal(text, &c); err != nil {
		return c, undecodable("claims", err)
	}
	return c, nil
}

// undecodable returns the refusal of a token whose header or claims cannot be decoded. It names the
// place of the fault, and contains nothing else of them.
func undecodable(part string, err error) error {
	var (
		semantic *json.SemanticError
		own      fault
	)
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return refuse("A name appears twice in the %s of the token: encode them with a JSON library.", part)
	case !errors.As(err, &semantic):
		return refuse("There is no valid JSON in UTF-8 in the %s of the token: encode it with a JSON library.", part)
	case semantic.JSONPointer == "":
		return refuse("There is no JSON object in the %s of the token: sign an object.", part)
	}
	name := place(semantic.JSONPointer)
	if errors.As(semantic.Err, &own) {
		return refuse("%s in the %s of the token %w.", name, part, own)
	}
	return refuse("%s in the %s of the token has the wrong type: it must be %s.", name, part, kindOf(semantic.GoType))
}

// place returns a JSON pointer as text that people read, such as rooms[0].join.
func place(pointer jsontext.Pointer) string {
	var text strings.Builder
	for name := range pointer.Tokens() {
		if _, err := strconv.Atoi(name); err == nil {
			text.WriteString("[" + name + "]")
			continue
		}
		if text.Len() > 0 {
			text.WriteByte('.')
		}
		text.WriteString(name)
	}
	return shorten(text.String())
}

// kindOf returns the kind of JSON value that is decoded into a type.
func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	default:
		return "an object"
	}
}

// user returns the user that the claims name. The Name is empty if the claim is missing, or empty
// as some backends write it.
func (c claims) user() (room.User, error) {
	user := room.User{ID: room.UserID(c.Subject)}
	switch {
	case c.Scope == ScopeAdmin:
		return user, refuse("The token is an admin token, which cannot start a session: sign a token of the user, without scope.")
	case c.Scope != "":
		return user, refuse("scope in the claims of the token is %s, which cannot start a session: leave scope out.", quote(c.Scope))
	case c.Subject == "":
		return user, refuse("sub in the claims of the token is missing or empty: it must be the userID.")
	case !user.ID.Valid():
		return user, refuse("sub in the claims of the token is not a userID: it %s.", user.ID.Fault())
	case c.Name == "":
		return user, nil
	}
	var bad *room.NameFault
	if user.Name, bad = room.CleanName(c.Name, room.MaxUserNameBytes); bad != nil {
		return user, refuse("name in the claims of the token %s.", bad.Message)
	}
	return user, nil
}

// grants returns what the claims allow; nil means everything. If one of rooms, peers, media and
// updateProfile is given, the token allows nothing else: a missing claim then allows nothing.
func (c claims) grants() (*room.Grants, error) {
	if c.Rooms == nil && c.Peers == nil && c.Media == nil && c.Profile == nil {
		return nil, nil
	}
	for i, grant := range c.Rooms {
		if err := checkGranted(string(grant.RoomID)); err != nil {
			return nil, refuse("rooms[%d].roomID in the claims of the token %w.", i, err)
		}
	}
	for i, peer := range c.Peers {
		if err := checkGranted(string(peer)); err != nil {
			return nil, refuse("peers[%d] in the claims of the token %w.", i, err)
		}
	}
	g := &room.Grants{Rooms: c.Rooms, Peers: c.Peers}
	var err error
	if g.Media, err = granted("media", c.Media); err != nil {
		return nil, err
	}
	g.Profile, err = granted("updateProfile", c.Profile)
	return g, err
}

// granted returns the value of a claim that is true or false. A missing claim is false.
func granted(name string, value jsontext.Value) (bool, error) {
	switch string(value) {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	}
	return false, refuse("%s in the claims of the token has the wrong type: it must be true or false.", name)
}

// checkGranted returns an error if an ID or a pattern of IDs is empty, or cannot be stored.
func checkGranted(pattern string) error {
	switch {
	case pattern == "":
		return fault("is missing or empty: it must be an ID, or the beginning of IDs and *")
	case strings.ContainsRune(pattern, 0):
		return fault("contains a NUL character: write the ID without it")
	}
	return nil
}

// check returns an error if signed claims are not valid, or not valid at this time. It returns
// room.ErrTokenExpired only for a token that is valid otherwise.
func (t *Tokens) check(c claims, lifetime time.Duration) error {
	now := t.now()
	latest := now.Add(ClockSkew)
	switch {
	case c.ExpiresAt == nil:
		return refuse("exp is missing in the claims of the token: set it to when the token expires, in seconds since 1970.")
	case t.Issuer != "" && c.Issuer != t.Issuer:
		return refuse("iss in the claims of the token is %s: it must be %q.", quote(c.Issuer), t.Issuer)
	case t.Audience != "" && !slices.Contains(c.Audience, t.Audience):
		return refuse("aud in the claims of the token is %s: it must contain %q.", quote(strings.Join(c.Audience, ", ")), t.Audience)
	case c.NotBefore != nil && c.NotBefore.After(latest):
		return refuse("The token is valid only from %s on (nbf), by the server's clock in %s: correct the clock of your backend, or leave nbf out.",
			room.InstantOf(c.NotBefore.Time), durationText(c.NotBefore.Sub(now)))
	case c.IssuedAt != nil && c.IssuedAt.After(latest):
		return refuse("The token was issued at %s (iat), which is %s after the server's time: correct the clock of your backend.",
			room.InstantOf(c.IssuedAt.Time), durationText(c.IssuedAt.Sub(now)))
	case lifetime > 0 && c.ExpiresAt.Sub(c.issuedBy(latest)) > lifetime:
		return refuse("exp in the claims of the token is more than %s after iat, or after now without iat: sign tokens that last shorter.", lifetime)
	case !now.Before(c.ExpiresAt.Add(ClockSkew)):
		return room.ErrTokenExpired.Because(fmt.Sprintf("The token expired at %s (exp), which was %s ago by the server's clock: get a new one from your backend.",
			room.InstantOf(c.ExpiresAt.Time), durationText(now.Sub(c.ExpiresAt.Time))))
	}
	return nil
}

// issuedBy returns when the token was issued, or else the latest time at which it can have been
// issued.
func (c claims) issuedBy(latest time.Time) time.Time {
	if c.IssuedAt != nil {
		return c.IssuedAt.Time
	}
	return latest
}

// until returns when what begins now with the token ends. A token that is accepted after its exp,
// because its backend's clock may be behind, lasts as long as it is accepted.
func (t *Tokens) until(c claims) time.Time {
	if t.now().Before(c.ExpiresAt.Time) {
		return c.ExpiresAt.UTC()
	}
	return c.ExpiresAt.Add(ClockSkew).UTC()
}

// refuse returns room.ErrTokenInvalid with a reason: a sentence that says what is wrong and what to
// do. A reason contains nothing secret. Before the signature is verified it is only about the form
// of the token and the names of keys.
func refuse(format string, args ...any) error {
	return room.ErrTokenInvalid.Because(fmt.Errorf(format, args...).Error())
}

// maxQuotedBytes is how much of a text from a token a reason contains.
const maxQuotedBytes = 64

// shorten returns a text of at most maxQuotedBytes bytes and an ellipsis.
func shorten(text string) string {
	if len(text) <= maxQuotedBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxQuotedBytes], "") + "…"
}

// quote returns a text from a token as a reason shows it.
func quote(text string) string {
	if text == "" {
		return "missing"
	}
	return strconv.Quote(shorten(text))
}

// durationText returns a duration in one unit.
func durationText(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d seconds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
