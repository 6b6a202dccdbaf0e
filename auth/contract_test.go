package auth

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"parlor/auth/authtest"
	"parlor/room"
)

// contractSchemas returns the schemas of openapi.yaml.
func contractSchemas(t *testing.T) openapi3.Schemas {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return document.Components.Schemas
}

// TestContractClaims compares the claims and the grants in the contract with those that are
// decoded.
func TestContractClaims(t *testing.T) {
	t.Parallel()
	schemas := contractSchemas(t)
	decoded := members(reflect.TypeFor[claims]())
	for _, c := range []struct {
		schema string
		// not lists members that the other kind of token has.
		not []string
	}{
		{"UserTokenClaims", []string{"scope"}},
		{"AdminTokenClaims", []string{"name", "rooms", "peers", "media", "updateProfile"}},
	} {
		want := make(map[string]string)
		for name, kind := range decoded {
			if !slices.Contains(c.not, name) {
				want[name] = kind
			}
		}
		if diff := cmp.Diff(want, promised(schemas[c.schema])); diff != "" {
			t.Errorf("%s: decoded (-) and in the contract (+):\n%s", c.schema, diff)
		}
	}
	if diff := cmp.Diff(members(reflect.TypeFor[room.Grant]()), promised(schemas["RoomGrant"])); diff != "" {
		t.Errorf("RoomGrant: decoded (-) and in the contract (+):\n%s", diff)
	}
}

// members returns the names of the JSON members of a struct, and their kinds.
func members(t reflect.Type) map[string]string {
	kinds := make(map[string]string)
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		kinds[name] = jsonKind(field)
	}
	return kinds
}

// jsonKind returns the kind of JSON value that a field is decoded from.
func jsonKind(field reflect.StructField) string {
	switch {
	case field.Type == reflect.TypeFor[*numericDate]():
		return "integer"
	case field.Name == "Media", field.Name == "Profile": // which is kept as JSON until it is checked
		return "boolean"
	case field.Type.Kind() == reflect.Slice:
		return "array"
	case field.Type.Kind() == reflect.Bool:
		return "boolean"
	}
	return field.Type.Kind().String()
}

// promised returns the names of the properties of a schema, and their types.
func promised(schema *openapi3.SchemaRef) map[string]string {
	types := make(map[string]string)
	for name, property := range schema.Value.Properties {
		if of := property.Value.AllOf; len(of) > 0 {
			property = of[0]
		}
		types[name] = strings.Join(property.Value.Type.Slice(), ",")
	}
	return types
}

// TestClaimsOfGuide checks that docs/tokens.md shows the claims of the examples in the contract.
func TestClaimsOfGuide(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../docs/tokens.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(guide, -1)
	names := []string{"UserTokenClaims", "AdminTokenClaims"}
	if len(blocks) != len(names) {
		t.Fatalf("the guide has %d blocks of JSON", len(blocks))
	}
	for i, name := range names {
		var shown any
		if err := json.Unmarshal(blocks[i][1], &shown); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(contractSchemas(t)[name].Value.Example, shown); diff != "" {
			t.Errorf("%s: in the contract (-) and in the guide (+):\n%s", name, diff)
		}
	}
}

// TestContractExamplesOfClaims checks that the examples of claims in the contract are complete, and
// that the server reads from them what they say.
func TestContractExamplesOfClaims(t *testing.T) {
	t.Parallel()
	schemas := contractSchemas(t)
	tokens := &Tokens{
		Secret: secret, Audience: "parlor", Issuer: "https://id.example.com",
		Now: func() time.Time { return time.Unix(1795453200, 0) },
	}
	example := func(name string) string {
		schema := schemas[name].Value
		claims, _ := schema.Example.(map[string]any)
		for property := range schema.Properties {
			if _, ok := claims[property]; !ok && property != "nbf" {
				t.Errorf("the example of %s lacks %s", name, property)
			}
		}
		return authtest.Token(t, jwt.SigningMethodHS256, secret, func(c jwt.MapClaims) {
			clear(c)
			for name, value := range claims {
				c[name] = value
			}
		}, nil)
	}
	got, err := tokens.Verify(example("UserTokenClaims"))
	want := room.Claims{
		User: room.User{ID: "guest-17", Name: "Guest 17"}, IssuedAt: time.Unix(1795453200, 0).UTC(), ExpiresAt: time.Unix(1795456800, 0).UTC(),
		Grants: &room.Grants{
			Rooms: []room.Grant{
				{RoomID: "class-7", Create: true, Join: true, Send: true, Kick: true, Attributes: true, Settings: true}, {RoomID: "hall-*", Join: true},
			},
			Peers: []room.UserID{"alice", "support-*"}, Media: true, Profile: true,
		},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("a user's token: %v, claims (-want +got):\n%s", err, diff)
	}
	subject, until, err := tokens.VerifyAdmin(example("AdminTokenClaims"))
	if err != nil || subject != "backend" || !until.Equal(time.Unix(1795453800, 0)) {
		t.Errorf("an admin's token is that of %q until %s: %v", subject, until, err)
	}
	complete, err := json.Marshal(want.Grants.Rooms[0])
	if err != nil || strings.Count(string(complete), "true") != len(members(reflect.TypeFor[room.Grant]()))-1 {
		t.Errorf("the example does not grant every action: %s: %v", complete, err)
	}
}
