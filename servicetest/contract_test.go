package servicetest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"parlor/handlers"
)

// The harness checks every exchange of every test against the contract, and TestMain reports parts
// of the contract that no test has seen. This file has the remaining checks.

// TestContractIsValid also checks that each example follows its schema.
func TestContractIsValid(t *testing.T) {
	t.Parallel()
	err := openapi().Validate(context.Background(),
		openapi3.EnableExamplesValidation(), openapi3.EnableSchemaDefaultsValidation(),
		openapi3.EnableSchemaFormatValidation(), openapi3.EnableSchemaPatternValidation())
	if err != nil {
		t.Error(err)
	}
}

// TestContractStreamExamples parses the stream examples with the tests' own parser.
func TestContractStreamExamples(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/events", "/v1/admin/events"} {
		op := openapi().Paths.Find(path).Get
		example, _ := op.Responses.Status(http.StatusOK).Value.Content.Get("text/event-stream").Example.(string)
		events := 0
		err := readEvents(strings.NewReader(example), func(e event) {
			events++
			if err := e.check(op.OperationID); err != nil {
				t.Error(err)
			}
		}, func(int) {}, func() {})
		if err != nil || events == 0 {
			t.Errorf("the example of %s has %d events, error %v", path, events, err)
		}
	}
}

func TestContractRoutes(t *testing.T) {
	t.Parallel()
	pages := []string{"/", "/docs", "/docs/errors", "/docs/tokens", "/assets/*", "/sdk/*", "/openapi.yaml"} // with GET and HEAD
	routes := handlers.New(handlers.Options{Web: webPages, Development: true})
	var registered []string
	err := chi.Walk(routes, func(method, path string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if !slices.Contains(pages, path) {
			registered = append(registered, method+" "+path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var promised []string
	for path, item := range openapi().Paths.Map() {
		for method := range item.Operations() {
			promised = append(promised, method+" "+path)
		}
	}
	slices.Sort(registered)
	slices.Sort(promised)
	if diff := cmp.Diff(promised, registered); diff != "" {
		t.Errorf("in the contract (-) and in the router (+):\n%s", diff)
	}
}

// TestContractEnums compares the contract's enums with the constants of package room.
func TestContractEnums(t *testing.T) {
	t.Parallel()
	for _, words := range []struct {
		schema string // a schema, or a property of one
		typ    string
		// unsent lists constants that are never sent to clients.
		unsent []string
	}{
		{"MessageKind", "MessageKind", nil},
		{"Priority", "Priority", nil},
		{"LeaveReason", "LeaveReason", nil},
		{"NodeState", "NodeState", nil},
		{"HistoryVisible", "HistoryVisible", nil},
		{"Lifetime", "Lifetime", nil},
		{"History", "History", nil},
		{"PresenceMode", "PresenceMode", nil},
		{"MemberEvents", "MemberEvents", nil},
		{"MemberState", "MemberState", nil},
		{"StatusState", "StatusState", nil},
		{"ConnectionStateChangedEvent.event", "ConnectionEvent", nil},
		{"RoomResetEvent.reason", "ResetReason", nil},
		{"FeedReadyEvent.reason", "ResetReason", []string{"cursorInvalid"}}, // rejected with an error
		{"RoomDestroyedEvent.reason", "DestroyReason", nil},
		{"Session.state", "SessionState", []string{"ended"}},                   // the session key is rejected
		{"RoomStateChangedEvent.state", "RoomState", []string{"reconnecting"}}, // there is no stream to send it over
		{"RoomStateEvent", "RoomEvent", []string{"networkInterrupted"}},        // there is no stream to send it over
	} {
		name, property, _ := strings.Cut(words.schema, ".")
		schema := openapi().Components.Schemas[name].Value
		if property != "" {
			schema = schema.Properties[property].Value
		}
		var promised []string
		for _, word := range schema.Enum {
			promised = append(promised, word.(string))
		}
		known := slices.DeleteFunc(constants(t, "../room", words.typ), func(word string) bool {
			return slices.Contains(words.unsent, word)
		})
		slices.Sort(promised)
		slices.Sort(known)
		if diff := cmp.Diff(promised, known); diff != "" {
			t.Errorf("%s: in the contract (-) and in package room (+):\n%s", words.schema, diff)
		}
	}
}
