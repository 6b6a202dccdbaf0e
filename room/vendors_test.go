package room_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// vendors lists the words of hosted systems, by the table that explains them.
var vendors = map[string][]string{
	"ZIMConnectionState": {"Disconnected 0", "Connecting 1", "Connected 2", "Reconnecting 3"},
	"ZIMConnectionEvent": {
		"Success 0", "ActiveLogin 1", "LoginTimeout 2", "LoginInterrupted 3", "KickedOut 4", "TokenExpired 5", "Unregistered 6",
	},
	"ZIMRoomState": {"Disconnected 0", "Connecting 1", "Connected 2"},
	"ZIMRoomEvent": {
		"Success 0", "NetworkInterrupted 1", "NetworkDisconnected 2", "RoomNotExist 3", "ActiveCreate 4", "CreateFailed 5", "ActiveEnter 6",
		"EnterFailed 7", "KickedOut 8", "ConnectTimeout 9", "KickedOutByOtherDevice 10", "ActiveSwitch 11", "SwitchFailed 12",
	},
	"ZIMErrorCode": {
		"6000001 CommonModuleParamsInvalid", "6000002 CommonModuleNotInit", "6000004 CommonModuleTriggerSDKFrequencyLimit",
		"6000005 CommonModuleTriggerServerFrequencyLimit", "6000007 CommonModuleIMServerError", "6000008 CommonModuleIMDatabaseError",
		"6000009 CommonModuleIMServerDisconnect", "6000011 CommonModuleUserIsNotExist", "6000013 CommonModuleUnsupportedRequest",
		"6000021 CommonModuleBlacklistLimit", "6000102 NetworkModuleServerError",
		"6000103 NetworkModuleTokenInvalid", "6000104 NetworkModuleNetworkError", "6000105 NetworkModuleRequestTimeout",
		"6000106 NetworkModuleTokenExpired", "6000107 NetworkModuleTokenVersionError", "6000108 NetworkModuleTokenTimeIsTooShort",
		"6000109 NetworkModuleTokenTimeIsTooLong", "6000111 NetworkModuleUserHasAlreadyLogged", "6000121 NetworkModuleUserIsNotLogged",
		"6000122 NetworkModuleUserHasAlreadyLoggedOut", "6000123 NetworkModuleUserOffline", "6000124 NetworkModuleUserIDError",
		"6000204 MessageModuleTargetDoesNotExist", "6000284 SenderInBlacklist",
		"6000301 RoomModuleCommonError", "6000302 RoomModuleServerError", "6000303 RoomModuleCreateRoomError", "6000304 RoomModuleJoinRoomError",
		"6000306 RoomModuleLeaveRoomError", "6000310 TheRoomMemberQueryFailed", "6000311 TheRoomMembersQueryFailedCompletely",
		"6000320 RoomModuleUserIsAlreadyInTheRoom", "6000321 RoomModuleUserIsNotInTheRoom", "6000322 RoomModuleTheRoomDoesNotExist",
		"6000323 RoomModuleTheRoomAlreadyExists", "6000324 TheNumberOfExistingRoomsHasReachedLimit",
		"6000325 TheNumberOfJoinedRoomsHasReachedLimit", "6000326 RoomModuleTheRoomIsConnecting", "6000327 RoomModuleRoomMemberIsBlocked",
		"6000330 RoomAttributesCommonError", "6000331 RoomAttributesOperationFailedCompletely", "6000332 RoomAttributesOperationFailedPartly",
		"6000333 RoomAttributesQueryFailed", "6000334 number of room attributes", "6000335 length of a room attribute's key",
		"6000336 length of a room attribute's value", "6000337 total length of room attributes",
		"6000350 RoomMemberAttributesCommonError", "6000351 total length of member attributes", "6000352 length of a member attribute's key",
		"6000353 length of a member attribute's value", "6000354 rate of setting member attributes",
		"6000355 rate of querying a room's member attributes", "6000356 rate of querying a user's member attributes",
		"6000357 number of members with attributes", "6000601 ConversationModuleCommonError",
		"6000603 ConversationModuleConversationDoesNotExist", "6000805 FriendModuleCannotAddSelfToBlacklist",
		"6000807 FriendModuleUserNotInBlacklist",
	},
	"ZIMUserOnlineStatus": {"Online 0", "Offline 1", "Logout 2", "Unknown 99"},
	"ZIM calls and callbacks for statuses": {
		"subscribeUsersStatus", "unsubscribeUsersStatus", "queryUsersStatus", "querySubscribedUserStatusList", "updateUserCustomStatus",
		"userStatusUpdated", "onlinePlatforms",
	},
	"ZIM calls for rooms": {
		"createRoom", "joinRoom", "enterRoom", "switchRoom", "leaveRoom", "leaveAllRoom", "queryRoomMemberList", "queryRoomMembers",
		"queryRoomOnlineMemberCount", "setRoomAttributes", "deleteRoomAttributes", "beginRoomAttributesBatchOperation",
		"endRoomAttributesBatchOperation", "queryRoomAllAttributes", "setRoomMembersAttributes", "queryRoomMembersAttributes",
		"queryRoomMemberAttributesList",
	},
	"ZIM calls for messages": {
		"sendMessage to a room", "sendMessage to a user", "sendMediaMessage", "replyMessage", "editMessage", "cancelSendingMessage",
		"revokeMessage", "queryHistoryMessage", "queryMessages", "deleteMessages", "deleteAllMessage", "deleteAllConversationMessages",
		"sendMessageReceiptsRead", "addMessageReaction", "pinMessage", "queryCombineMessageDetail", "insertMessageToLocalDB",
		"searchLocalMessages",
	},
	"ZIM callbacks": {
		"error", "tokenWillExpire", "connectionStateChanged", "roomStateChanged", "roomMemberJoined", "roomMemberLeft",
		"roomAttributesUpdated", "roomAttributesBatchUpdated", "roomMemberAttributesUpdated", "roomMessageReceived",
		"receiveRoomMessage", "peerMessageReceived", "receivePeerMessage", "messageSentStatusChanged", "messageRevokeReceived",
		"messageDeleted", "messageEdited", "messageReceiptChanged", "messageReactionsChanged", "messageRepliedInfoChanged",
		"messageRepliedCountChanged", "messagePinStatusChanged", "broadcastMessageReceived",
	},
	"ZIMMessageType": {
		"Unknown 0", "Text 1", "Command 2", "Multiple 10", "Image 11", "File 12", "Audio 13", "Video 14", "Barrage 20", "System 30",
		"Revoke 31", "Tips 32", "Combine 100", "Custom 200",
	},
	"ZIMMessagePriority": {
		"Low 1", "Medium 2", "High 3",
	},
	"ZIMMessageRevokeStatus": {
		"SelfRevoke 0", "SystemRevoke 1", "ServerAPIRevoke 2", "GroupAdminRevoke 3", "GroupOwnerRevoke 4", "AuditRejectRevoke 5",
	},
	"ZIM attribute actions": {
		"RoomAttributesUpdateAction Set 0", "RoomAttributesUpdateAction Delete 1", "RoomMemberAttributesUpdateAction Set 0",
	},
	"ZIMErrorCode of messages": {
		"6000201 MessageModuleCommonError", "6000202 MessageModuleServerError", "6000203 MessageModuleSendMessageFailed",
		"6000205 EditMessageFailed", "6000206 SendMessageFailedForCancelled", "6000207 CancelSendingMessageFailed",
		"6000208 MessageIsNotPinned", "6000210 MessageModuleFileError", "6000211 MessageModuleFileNotExist",
		"6000212 MessageModuleFileServerError", "6000213 MessageModuleFileTypeUnsupported", "6000214 MessageModuleFileSizeInvalid",
		"6000215 MessageModuleFileDurationInvalid", "6000216 MessageModuleFilePermissionDenied",
		"6000217 MessageModuleFileDownloadFailed", "6000218 MessageModuleFileDownloadLimit",
		"6000219 MessageModuleFileDownloadUrlNotFound", "6000220 FileDownloadHttpRequestServerError",
		"6000221 MessageModuleAuditRejected", "6000222 MessageModuleAuditFailed", "6000230 AuditCustomSentRejected",
		"6000231 banned sender", "6000277 MessageModuleReceiptReadError", "6000278 MessageExceedsRevokeTime",
		"6000279 MessageHasBeenRevoked", "6000280 MessageReactionTypeExisted", "6000282 MessageReceiptLimit",
		"6000284 SenderInBlacklist", "6000285 EditNoCorrespondingOperationAuthority", "6000286 MessageExceedsEditTime",
		"6000287 TheNumberOfPinnedMessagesExceedsLimit",
	},
	"Express calls and callbacks": {
		"loginRoom", "logoutRoom", "switchRoom", "renewToken", "tokenWillExpire", "roomStateChanged", "roomStateUpdate",
		"sendBroadcastMessage", "IMRecvBroadcastMessage", "sendBarrageMessage", "IMRecvBarrageMessage", "sendCustomCommand",
		"IMRecvCustomCommand", "setRoomExtraInfo", "roomExtraInfoUpdate",
	},
	"ZIM conversations and block lists": {
		"queryConversationList", "queryConversation", "deleteConversation", "clearConversationUnreadMessageCount",
		"clearConversationTotalUnreadMessageCount", "conversationChanged", "conversationTotalUnreadMessageCountUpdated", "addUsersToBlacklist",
		"removeUsersFromBlacklist", "queryBlackList", "checkUserIsInBlackList", "blacklistChanged",
	},
	"ZIM calls and callbacks for profiles": {
		"updateUserName", "updateUserAvatarUrl", "updateUserExtendedData", "queryUsersInfo", "errorUserList of queryUsersInfo", "userInfoUpdated",
	},
	"QNConnectionState":              {"DISCONNECTED", "CONNECTING", "CONNECTED", "RECONNECTING", "RECONNECTED"},
	"QNConnectionDisconnectedReason": {"LEAVE", "KICKED_OUT", "ROOM_CLOSED", "ROOM_FULL", "ERROR"},
	"QNRTC room events":              {"user-joined", "user-left", "onMessageReceived", "user-reconnecting", "user-reconnected"},
	"QNRTC error codes": {
		"10001 bad token", "10002 token expired", "10011 room full", "10012 room closed", "10022 same user present", "10052 server unavailable",
		"10053 invalid parameters", "10054 media", "21001 authentication", "21003 no reconnection in time", "21005 fatal", "21006 not supported",
	},
	"Express room callbacks": {"roomUserUpdate ADD", "roomUserUpdate DELETE", "roomOnlineUserCountUpdate"},
	"ZegoRoomStateChangedReason": {
		"LOGINING 0", "LOGINED 0", "LOGIN_FAILED 1002033", "LOGIN_FAILED 1002034", "LOGIN_FAILED 1002053", "LOGIN_FAILED 1002066",
		"LOGIN_FAILED 1002077", "LOGIN_FAILED 1002086", "LOGIN_FAILED of switchRoom", "RECONNECTING 1002051", "RECONNECTING 1000017",
		"RECONNECTED 0", "RECONNECT_FAILED 1002053", "KICKOUT 1002050", "KICKOUT 1002055", "KICKOUT 1002078", "LOGOUT 0",
		"LOGOUT_FAILED 1002002",
	},
}

// TestVendorWordsAreExplained compares the tables about other systems with the lists of their
// words, and with the words of the code and of the contract.
func TestVendorWordsAreExplained(t *testing.T) {
	t.Parallel()
	known := words(t)
	named := map[string]bool{}
	for table, values := range vendors {
		rows := cells(t, "### "+table+"\n")
		var explained []string
		for _, row := range rows {
			if len(row) != 3 {
				t.Fatalf("%s: a row of %d cells: %q", table, len(row), row)
			}
			explained = append(explained, row[0])
			where := table + ": " + row[0]
			checkPhrases(t, where, row[1])
			for _, word := range quoted(row[1] + row[2]) {
				named[word] = true
				if !slices.Contains(known, word) {
					t.Errorf("%s: neither the code nor the contract has %q", where, word)
				}
			}
			// A state that is not on the wire needs an explanation.
			if (strings.Contains(row[1], "client only") || strings.Contains(row[1], "not applicable") || strings.Contains(row[1], "not offered")) && row[2] == "" {
				t.Errorf("%s: %s, without a reason", where, row[1])
			}
		}
		slices.Sort(explained)
		if diff := cmp.Diff(slices.Sorted(slices.Values(values)), explained); diff != "" {
			t.Errorf("%s (-the vendor +the document):\n%s", table, diff)
		}
	}
	for typ, words := range constants(t) {
		if typ != "RoomEvent" && typ != "ConnectionEvent" && typ != "LeaveReason" {
			continue
		}
		for _, word := range words {
			if !named[word] {
				t.Errorf("the %s %s corresponds to no word of a vendor", typ, word)
			}
		}
	}
}

// phrase is a word of Parlor's that corresponds to one of a vendor's.
var phrase = regexp.MustCompile("^(?:" + strings.Join([]string{
	"client only", "not applicable", "not offered", "401", "`(?P<type>[a-zA-Z]+)`",
	"(?P<status>[45][0-9]{2}) `(?P<code>[a-z_]+)`",
	"`roomStateChanged` `(?P<state>[a-z]+)`(?: `(?P<event>[a-zA-Z]+)`)?",
	"`connectionStateChanged` `disconnected`(?: `(?P<ended>[a-zA-Z]+)`)?",
	"`roomMemberLeft` `(?P<reason>[a-zA-Z]+)`",
}, "|") + ")$")

// checkPhrases checks that words which are documented to be on the wire exist there.
func checkPhrases(t *testing.T, where, cell string) {
	t.Helper()
	notified := []room.RoomState{room.RoomConnecting, room.RoomConnected, room.RoomDisconnected} // only the client knows the other one
	transitions := map[string]bool{}
	for _, tr := range room.RoomTransitions {
		transitions[fmt.Sprint(tr.To, " ", tr.Event)] = true
	}
	statuses := documentedErrors(t)
	all := constants(t)
	var operations []string
	for _, match := range regexp.MustCompile(`operationId: (\w+)`).FindAllStringSubmatch(read(t, "../openapi.yaml"), -1) {
		operations = append(operations, match[1])
	}
	for part := range strings.SplitSeq(cell, "; ") {
		match := phrase.FindStringSubmatch(part)
		if match == nil {
			t.Errorf("%s: %q does not match phrase", where, part)
			continue
		}
		group := func(name string) string { return match[phrase.SubexpIndex(name)] }
		if typ := group("type"); typ != "" && !slices.Contains(all["EventType"], typ) && !slices.Contains(operations, typ) {
			t.Errorf("%s: there is no event and no operation %s", where, typ)
		}
		if code := group("code"); code != "" && statuses[code] != group("status") {
			t.Errorf("%s: %s has status %q, want %s", where, code, statuses[code], group("status"))
		}
		if state := group("state"); state != "" {
			if !slices.Contains(notified, room.RoomState(state)) {
				t.Errorf("%s: no session is notified of %s", where, state)
			}
			if event := group("event"); event != "" && !transitions[state+" "+event] {
				t.Errorf("%s: no transition to %s by %s", where, state, event)
			}
		}
		if event := group("ended"); event != "" && !slices.Contains(all["ConnectionEvent"], event) {
			t.Errorf("%s: no stream ends by %s", where, event)
		}
		if reason := group("reason"); reason != "" && !slices.Contains(all["LeaveReason"], reason) {
			t.Errorf("%s: there is no leave reason %s", where, reason)
		}
	}
}

// TestDocumentedTimes compares Parlor's column of the table of times with the code.
func TestDocumentedTimes(t *testing.T) {
	t.Parallel()
	ours := map[string]string{}
	for _, row := range cells(t, "### Times\n") {
		ours[row[0]] = row[1]
	}
	seconds := func(d time.Duration) string { return fmt.Sprint(int(d.Seconds())) }
	for what, want := range map[string]string{
		"Then it leaves its rooms": fmt.Sprintf("after `memberTimeout`: %s s, %s to %s s per room",
			seconds(room.DefaultMemberTimeout), seconds(room.MinMemberTimeout), seconds(room.MaxMemberTimeout)),
		"The token's expiry is announced": seconds(room.TokenWarning) + " s before",
		"An empty room is destroyed": fmt.Sprintf("after `destroyDelay`: %d s, up to %s s per room",
			room.DefaultConfig().DestroyDelay, seconds(room.MaxDestroyDelay)),
		"An unused room is destroyed": fmt.Sprintf("after `unusedTimeout`: %s s, %s to %s s per room",
			seconds(room.DefaultUnusedTimeout), seconds(room.MinUnusedTimeout), seconds(room.MaxUnusedTimeout)),
	} {
		if ours[what] != want {
			t.Errorf("%s: the document says %q, the code %q", what, ours[what], want)
		}
	}
}

// cells returns the first table below a heading of docs/room-states.md.
func cells(t *testing.T, heading string) [][]string {
	t.Helper()
	_, section, found := strings.Cut(read(t, "../docs/room-states.md"), heading)
	if !found {
		t.Fatalf("no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n#")
	var rows [][]string
	for line := range strings.Lines(section) {
		line, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "|")
		if !ok {
			continue
		}
		var row []string
		for cell := range strings.SplitSeq(strings.TrimSuffix(line, "|"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		rows = append(rows, row)
	}
	return rows[2:] // the head and the line below it
}

// quoted returns the single words in backticks.
func quoted(text string) []string {
	var words []string
	for _, match := range regexp.MustCompile("`([a-zA-Z_]+)`").FindAllStringSubmatch(text, -1) {
		words = append(words, match[1])
	}
	return words
}

// words returns the names in the code and in the contract.
func words(t *testing.T) []string {
	t.Helper()
	known := slices.Concat(slices.Collect(maps.Values(constants(t)))...)
	known = slices.AppendSeq(known, maps.Keys(documentedErrors(t)))
	// From the contract: operations, events, properties, and the values of enums.
	contract := read(t, "../openapi.yaml")
	for _, match := range regexp.MustCompile(`(?m)^ +(?:operationId: |- |)([a-zA-Z_]+)(?:$|:)`).FindAllStringSubmatch(contract, -1) {
		known = append(known, match[1])
	}
	for _, match := range regexp.MustCompile(`enum: \[(.*)\]`).FindAllStringSubmatch(contract, -1) {
		known = append(known, strings.Split(match[1], ", ")...)
	}
	return known
}

// documentedErrors returns the status of each code in docs/errors.md, which another test compares
// with the contract.
func documentedErrors(t *testing.T) map[string]string {
	t.Helper()
	statuses := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^### ([a-z_]+)\n\n\*\*([0-9]{3}) `).FindAllStringSubmatch(read(t, "../docs/errors.md"), -1) {
		statuses[match[1]] = match[2]
	}
	return statuses
}

// constants returns the package's string constants by type.
func constants(t *testing.T) map[string][]string {
	t.Helper()
	values := map[string][]string{}
	for _, name := range []string{"state.go", "member.go", "session.go", "event.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			typ, ok := spec.Type.(*ast.Ident)
			if !ok {
				return true
			}
			for _, value := range spec.Values {
				if literal, ok := value.(*ast.BasicLit); ok && literal.Kind == token.STRING {
					word, err := strconv.Unquote(literal.Value)
					if err != nil {
						t.Fatal(err)
					}
					values[typ.Name] = append(values[typ.Name], word)
				}
			}
			return true
		})
	}
	return values
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
