package handlers

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	contract "parlor"
	"parlor/room"
)

// requests contains the type into which the body of each operation is decoded.
var requests = map[string]any{
	"createSession":               createSessionRequest{},
	"renewToken":                  renewTokenRequest{},
	"createRoom":                  createRoomRequest{},
	"enterRoom":                   enterRoomRequest{},
	"joinRoom":                    joinRoomRequest{},
	"switchRoom":                  switchRoomRequest{},
	"kickMembers":                 kickRequest{},
	"sendRoomMessage":             sendMessageRequest{},
	"sendPeerMessage":             sendMessageRequest{},
	"adminCreateRoom":             adminCreateRoomRequest{},
	"adminKickMembers":            kickRequest{},
	"adminVoidTokens":             voidTokensRequest{},
	"adminSendMessage":            adminSendMessageRequest{},
	"updateRoom":                  updateRoomRequest{},
	"adminUpdateRoom":             updateRoomRequest{},
	"updateRoomAttributes":        updateRoomAttributesRequest{},
	"adminUpdateRoomAttributes":   updateRoomAttributesRequest{},
	"adminUpdateMemberAttributes": adminUpdateMemberAttributesRequest{},
	"adminSendPeerMessage":        adminSendMessageRequest{},
	"adminCreateBroadcast":        createBroadcastRequest{},
	"readConversation":            readConversationRequest{},
	"updateMemberAttributes":      updateMemberAttributesRequest{},
	"updateStatus":                updateStatusRequest{},
	"subscribeStatuses":           subscribeStatusesRequest{},
	"updateProfile":               updateProfileRequest{},
	"adminUpdateProfile":          updateProfileRequest{},
	"createDevelopmentToken":      developmentTokenRequest{},
}

// TestContractRequestLimits compares the fields and validate tags of requests with their schemas:
// both must have the same limits.
func TestContractRequestLimits(t *testing.T) {
	t.Parallel()
	compared := make(map[string]bool)
	for path, item := range loadContract(t).Paths.Map() {
		for _, op := range item.Operations() {
			if op.RequestBody == nil || op.RequestBody.Value.Content["application/json"] == nil {
				continue
			}
			request, ok := requests[op.OperationID]
			if !ok {
				t.Errorf("%s: requests lacks %s", path, op.OperationID)
				continue
			}
			compared[op.OperationID] = true
			schema := op.RequestBody.Value.Content.Get("application/json").Schema.Value
			compareFields(t, op.OperationID, schema, reflect.TypeOf(request))
		}
	}
	for name := range requests {
		if !compared[name] {
			t.Errorf("the contract has no JSON body for %s", name)
		}
	}
}

func compareFields(t *testing.T, where string, schema *openapi3.Schema, request reflect.Type) {
	t.Helper()
	schema = allVariants(schema, request)
	if schema.AdditionalProperties.Has == nil || *schema.AdditionalProperties.Has {
		t.Errorf("%s: the schema allows unknown fields, which the server rejects", where)
	}
	var inContract, inCode []string
	for name := range schema.Properties {
		inContract = append(inContract, name)
	}
	for i := range request.NumField() {
		f := request.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inCode = append(inCode, name)
		property := schema.Properties[name]
		if property == nil {
			continue // reported below
		}
		where := where + "." + name
		typ := f.Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct {
			compareRules(t, where, property.Value, false, f)
			if typ.Elem() != request { // otherwise the recursion would never end
				compareFields(t, where, property.Value.Items.Value, typ.Elem())
			}
			continue
		}
		if typ.Kind() == reflect.Struct {
			if required := slices.Contains(schema.Required, name); required != slices.Contains(rules(f.Tag.Get("validate")), "required") {
				t.Errorf("%s: required is %t in the contract, and %t in the code", where, required, !required)
			}
			compareFields(t, where, property.Value, typ)
			continue
		}
		compareRules(t, where, property.Value, slices.Contains(schema.Required, name), f)
	}
	slices.Sort(inContract)
	slices.Sort(inCode)
	if diff := cmp.Diff(inContract, inCode); diff != "" {
		t.Errorf("%s: fields (-contract +code):\n%s", where, diff)
	}
}

// allVariants returns a schema with the fields of all variants of a union, or the schema if it is none.
// The code has one type for all variants: what only some of them need or limit is a rule of package
// room.
func allVariants(s *openapi3.Schema, code reflect.Type) *openapi3.Schema {
	if s.OneOf == nil {
		return s
	}
	all := openapi3.NewObjectSchema()
	in := make(map[string]int) // the number of variants that have a field
	for _, variant := range s.OneOf {
		all.AdditionalProperties = variant.Value.AdditionalProperties
		all.Required = variant.Value.Required // of the last one; fields that not all have are removed below
		for name, property := range variant.Value.Properties {
			in[name]++
			field := *property.Value
			if known := all.Properties[name]; known != nil {
				field.Enum = slices.Concat(known.Value.Enum, field.Enum)
				if field.Enum != nil && slices.Equal(known.Value.Enum, property.Value.Enum) {
					field.Enum = known.Value.Enum
				}
				if known, ok := known.Value.Extensions["x-maxBytes"].(float64); ok && known > field.Extensions["x-maxBytes"].(float64) {
					field.Extensions = map[string]any{"x-maxBytes": known}
				}
			}
			all.WithProperty(name, &field)
		}
	}
	for i := range code.NumField() {
		// An empty value of such a field is the same as an absent one, which other variants have.
		name, _, _ := strings.Cut(code.Field(i).Tag.Get("json"), ",")
		if n := in[name]; n > 0 && n < len(s.OneOf) && code.Field(i).Type.Kind() != reflect.Pointer {
			all.Properties[name].Value.MinLength, all.Properties[name].Value.MinItems = 0, 0
		}
	}
	all.Required = slices.DeleteFunc(slices.Clone(all.Required), func(name string) bool { return in[name] < len(s.OneOf) })
	return all
}

func compareRules(t *testing.T, where string, schema *openapi3.Schema, required bool, f reflect.StructField) {
	t.Helper()
	if diff := cmp.Diff(contractRules(schema, required), rules(f.Tag.Get("validate"))); diff != "" {
		t.Errorf("%s: rules (-contract +code):\n%s", where, diff)
	}
}

// rules returns the rules of a validate tag. It omits omitnil and omitempty, which only allow a
// field to be absent or empty.
func rules(tag string) []string {
	all := slices.DeleteFunc(strings.Split(tag, ","), func(rule string) bool { return rule == "omitnil" || rule == "omitempty" || rule == "" })
	slices.Sort(all)
	return all
}

// contractRules returns the rules that enforce a schema.
func contractRules(s *openapi3.Schema, required bool) []string {
	all := []string{}
	rule := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if required {
		rule("required") // rejects the empty string as well
	}
	switch {
	case s.Format == "date-time":
		rule("instant")
	case s.Pattern != "" && *s.MaxLength == room.MaxUserIDBytes:
		rule("userID")
	case s.Pattern != "" && *s.MaxLength == room.MaxRoomIDBytes:
		rule("roomID")
	case s.Type.Is("string"):
		if s.MinLength > 0 && !required {
			rule("min=%d", s.MinLength)
		}
		// maxLength counts characters, and would allow more than x-maxBytes.
		bytes, ok := s.Extensions["x-maxBytes"]
		if s.Extensions["x-avatarURL"] == true {
			rule("avatarURL")
		}
		if s.Extensions["x-name"] == true {
			rule("name=%v", bytes)
		} else if ok {
			rule("maxBytes=%v", bytes)
		} else if s.MaxLength != nil {
			rule("max=%d", *s.MaxLength)
		}
	case s.Type.Is("integer"):
		rule("min=%d", int(*s.Min))
		rule("max=%d", int(*s.Max))
	case s.Type.Is("array"):
		if s.MinItems > 0 {
			rule("min=%d", s.MinItems)
		}
		rule("max=%d", *s.MaxItems)
		if s.UniqueItems {
			rule("unique")
		}
		rule("dive")
		if !s.Items.Value.Type.Is("object") {
			all = append(all, contractRules(s.Items.Value, false)...)
		}
	case s.Type.Is("object"): // with any keys, whose length OpenAPI 3.0 cannot limit
		if s.MaxProps != nil {
			rule("max=%d", *s.MaxProps)
		}
		rule("pairBytes=%v %v", s.Extensions["x-maxKeyBytes"], s.AdditionalProperties.Schema.Value.Extensions["x-maxBytes"])
		if bytes, ok := s.Extensions["x-maxTotalBytes"]; ok {
			rule("totalBytes=%v", bytes)
		}
	}
	if s.Enum != nil {
		words := make([]string, 0, len(s.Enum))
		for _, word := range s.Enum {
			words = append(words, fmt.Sprint(word))
		}
		rule("oneof=%s", strings.Join(words, " "))
	}
	slices.Sort(all)
	return all
}

// TestContractLimits compares the other limits: those of the rules, of queries and of IDs.
func TestContractLimits(t *testing.T) {
	t.Parallel()
	doc := loadContract(t)
	schema := func(name string) *openapi3.Schema { return doc.Components.Schemas[name].Value }
	// property returns a property of a schema, or of the first one that has it in a union.
	property := func(name, property string) *openapi3.Schema {
		for _, variant := range append(openapi3.SchemaRefs{{Value: schema(name)}}, schema(name).OneOf...) {
			for _, part := range append(openapi3.SchemaRefs{variant}, variant.Value.AllOf...) {
				if found := part.Value.Properties[property]; found != nil {
					return found.Value
				}
			}
		}
		t.Fatalf("%s has no property %s", name, property)
		return nil
	}
	parameter := func(path, name string) *openapi3.Schema {
		return doc.Paths.Find(path).Get.Parameters.GetByInAndName("query", name).Schema.Value
	}
	const members, messages = "/v1/rooms/{roomID}/members", "/v1/rooms/{roomID}/messages"
	const memberAttributes = "/v1/rooms/{roomID}/member-attributes"
	value := func(schema *openapi3.Schema) any {
		return schema.AdditionalProperties.Schema.Value.Extensions["x-maxBytes"]
	}
	items := func(schema *openapi3.Schema) any { return schema.Items.Value.Extensions["x-maxBytes"] }
	for _, limit := range []struct {
		what       string
		got        any
		inContract any
	}{
		{"user ID", room.MaxUserIDBytes, *schema("UserID").MaxLength},
		{"user name", room.MaxUserNameBytes, schema("UserName").Extensions["x-maxBytes"]},
		{"room ID", room.MaxRoomIDBytes, *schema("RoomID").MaxLength},
		{"room name", room.MaxRoomNameBytes, schema("RoomName").Extensions["x-maxBytes"]},
		{"device", room.MaxDeviceBytes, property("CreateSessionRequest", "device").Extensions["x-maxBytes"]},
		{"text", room.MaxTextBytes, property("SendMessageRequest", "text").Extensions["x-maxBytes"]},
		{"command", room.MaxCommandBytes, property("SendMessageRequest", "data").Extensions["x-maxBytes"]},
		{"title", room.MaxTitleBytes, property("SendMessageRequest", "title").Extensions["x-maxBytes"]},
		{"summary", room.MaxSummaryBytes, property("SendMessageRequest", "summary").Extensions["x-maxBytes"]},
		{"combined messages", room.MaxCombined, *property("SendMessageRequest", "messageList").MaxItems},
		{"sub type", room.MaxSubType, *schema("SubType").Max},
		{"extended data", room.MaxExtendedDataBytes, property("SendMessageRequest", "extendedData").Extensions["x-maxBytes"]},
		{"client message ID", room.MaxClientMessageIDBytes, property("SendMessageRequest", "clientMessageID").Extensions["x-maxBytes"]},
		{"minimum member timeout", room.MinMemberTimeout.Seconds(), *schema("MemberTimeout").Min},
		{"member timeout", room.MaxMemberTimeout.Seconds(), *schema("MemberTimeout").Max},
		{"users kicked at once", room.MaxKicked, *property("KickRequest", "userIDs").MaxItems},
		{"admin's reason", room.MaxReasonBytes, schema("OperatorReason").Extensions["x-maxBytes"]},
		{"avatar URL", room.MaxAvatarURLBytes, schema("AvatarURL").Extensions["x-maxBytes"]},
		{"a user's extended data", room.MaxUserExtendedDataBytes, schema("UserExtendedData").Extensions["x-maxBytes"]},
		{"users queried at once", maxMemberLookup, *parameter("/v1/users", "userID").MaxItems},
		{"ban", room.MaxBan.Seconds(), *property("KickRequest", "banSeconds").Max},
		{"room page", maxRoomPage, *parameter("/v1/admin/rooms", "limit").Max},
		{"default room page", defaultRoomPage, parameter("/v1/admin/rooms", "limit").Default},
		{"members", room.MaxMaxMembers, *schema("MaxMembers").Max},
		{"member page", maxMemberPage, *parameter(members, "limit").Max},
		{"default member page", defaultMemberPage, parameter(members, "limit").Default},
		{"member lookup", maxMemberLookup, *parameter(members, "userID").MaxItems},
		{"messages by seq", maxMessageLookup, *parameter(messages, "seq").MaxItems},
		{"messages by ID", maxMessageLookup, *parameter(messages, "messageID").MaxItems},
		{"members with the room", maxMemberPage, *schema("FirstMembersLimit").Max},
		{"members with the room in a query", maxMemberPage, *parameter("/v1/rooms/{roomID}", "memberLimit").Max},
		{"retention days", room.MaxRetentionDays, *schema("RetentionDays").Max},
		{"retention count", room.MaxRetentionCount, *schema("RetentionCount").Max},
		{"message page", maxMessagePage, *parameter(messages, "limit").Max},
		{"default message page", defaultMessagePage, parameter(messages, "limit").Default},
		{"room attributes", room.MaxRoomAttributes, *schema("RoomAttributes").MaxProps},
		{"room attributes to delete", room.MaxRoomAttributes, *property("UpdateRoomAttributesRequest", "delete").MaxItems},
		{"room attribute's key", room.MaxRoomAttributeKeyBytes, schema("RoomAttributes").Extensions["x-maxKeyBytes"]},
		{"room attribute's key to set", room.MaxRoomAttributeKeyBytes, property("UpdateRoomAttributesRequest", "set").Extensions["x-maxKeyBytes"]},
		{"room attribute's key to delete", room.MaxRoomAttributeKeyBytes, items(property("UpdateRoomAttributesRequest", "delete"))},
		{"room attribute's value", room.MaxRoomAttributeValueBytes, value(schema("RoomAttributes"))},
		{"room attribute's value to set", room.MaxRoomAttributeValueBytes, value(property("UpdateRoomAttributesRequest", "set"))},
		{"room attributes' bytes", room.MaxRoomAttributesBytes, schema("RoomAttributes").Extensions["x-maxTotalBytes"]},
		{"member attributes", room.MaxMemberAttributes, *schema("MemberAttributes").MaxProps},
		{"member attributes to delete", room.MaxMemberAttributes, *property("UpdateMemberAttributesRequest", "delete").MaxItems},
		{"member attribute's key", room.MaxMemberAttributeKeyBytes, schema("MemberAttributes").Extensions["x-maxKeyBytes"]},
		{"member attribute's key to set", room.MaxMemberAttributeKeyBytes, property("UpdateMemberAttributesRequest", "set").Extensions["x-maxKeyBytes"]},
		{"member attribute's key to delete", room.MaxMemberAttributeKeyBytes, items(property("UpdateMemberAttributesRequest", "delete"))},
		{"member attribute's value", room.MaxMemberAttributeValueBytes, value(schema("MemberAttributes"))},
		{"member attribute's value to set", room.MaxMemberAttributeValueBytes, value(property("UpdateMemberAttributesRequest", "set"))},
		{"member attributes' bytes", room.MaxMemberAttributesBytes, schema("MemberAttributes").Extensions["x-maxTotalBytes"]},
		{"member attributes page", maxMemberAttributesPage, *parameter(memberAttributes, "limit").Max},
		{"default member attributes page", defaultMemberAttributesPage, parameter(memberAttributes, "limit").Default},
		{"member attributes lookup", maxMemberLookup, *parameter(memberAttributes, "userID").MaxItems},
		{"file name", room.MaxFileNameBytes, property("Media", "fileName").Extensions["x-maxBytes"]},
		{"custom status", room.MaxCustomStatusBytes, schema("CustomStatus").Extensions["x-maxBytes"]},
		{"statuses lookup", maxMemberLookup, *parameter("/v1/statuses", "userID").MaxItems},
		{"statuses to subscribe to", maxMemberLookup, *property("SubscribeStatusesRequest", "userIDs").MaxItems},
		{"statuses in an event", room.MaxStatusesPerEvent, *property("UserStatusUpdatedEvent", "statusList").MaxItems},
		{"shortest subscription", room.MinStatusSubscription.Seconds(), *property("SubscribeStatusesRequest", "durationSeconds").Min},
		{"longest subscription", room.MaxStatusSubscription.Seconds(), *property("SubscribeStatusesRequest", "durationSeconds").Max},
		{"subscription page", maxSubscriptionPage, *parameter("/v1/status-subscriptions", "limit").Max},
		{"default subscription page", defaultSubscriptionPage, parameter("/v1/status-subscriptions", "limit").Default},
		{"upload", room.MaxMediaBytes, *doc.Paths.Find("/v1/media/uploads").Post.Parameters.GetByInAndName("header", "Upload-Length").Schema.Value.Max},
		{"before", maxSafeInteger, *parameter(messages, "before").Max},
		{"after", maxSafeInteger, *parameter(messages, "after").Max},
	} {
		if fmt.Sprint(limit.got) != fmt.Sprint(limit.inContract) && number64(limit.got) != number64(limit.inContract) {
			t.Errorf("%s: %v in the code, %v in the contract", limit.what, limit.got, limit.inContract)
		}
	}
	longest := encodeMemberCursor(room.MemberCursor{JoinedSeq: math.MaxInt64, User: room.UserID(strings.Repeat("x", room.MaxUserIDBytes))})
	if most := *parameter(members, "cursor").MaxLength; uint64(len(longest)) > most {
		t.Errorf("a member cursor may have %d characters, but only %d in the contract", len(longest), most)
	}
	for b := range 256 {
		for _, step := range []struct {
			name  string
			valid func(string) bool
		}{
			{"UserID", func(s string) bool { return room.UserID(s).Valid() }},
			{"RoomID", func(s string) bool { return room.RoomID(s).Valid() }},
		} {
			for _, id := range []string{"x" + string([]byte{byte(b)}), string([]byte{byte(b)}) + "x", "x" + string([]byte{byte(b)}) + "x"} {
				if regexp.MustCompile(schema(step.name).Pattern).MatchString(id) != step.valid(id) {
					t.Errorf("%s: code and contract disagree on %q", step.name, id)
				}
			}
		}
	}
}

// number64 returns a number of any type as a float64.
func number64(v any) float64 {
	switch n := reflect.ValueOf(v); {
	case n.CanInt():
		return float64(n.Int())
	case n.CanUint():
		return float64(n.Uint())
	case n.CanFloat():
		return n.Float()
	}
	return math.NaN()
}

func loadContract(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(contract.Contract)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
