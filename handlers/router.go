// Package handlers serves Parlor's HTTP API: routes, authentication, decoding, validation, replies
// and streams. It contains no rules: those are in package room, and the Store applies them.
package handlers

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-playground/validator/v10"

	"parlor/auth"
	"parlor/hub"
	"parlor/media"
	"parlor/room"
)

// Store is the database. Each file declares the methods that it calls. An error that is not a
// *room.Error is internal, and its text never reaches a caller.
type Store interface {
	keyStore
	sessionStore
	ticketStore
	streamStore
	feedStore
	roomStore
	settingsStore
	memberStore
	attributeStore
	memberAttributeStore
	messageStore
	recallStore
	peerStore
	blockStore
	statusStore
	conversationStore
	profileStore
	mediaStore
	uploadStore
	adminStore
	userStore
	broadcastStore
	nodeStore
}

// Options are the dependencies and settings of the API.
type Options struct {
	Store  Store
	Hub    *hub.Hub
	Tokens *auth.Tokens

	// HeardNodes returns since when this node has heard each of the others on the bus; nodes that it
	// does not hear are absent. It may be nil.
	HeardNodes func() map[room.NodeID]time.Time

	// SignedNames says that the name in a user's token wins over the one that the client gives.
	SignedNames    bool
	RoomsPerUser   int
	PublicURL      string // the URL at which clients reach the server, which may have a path; empty means that of each request
	Ceilings       room.Ceilings
	AllowedOrigins []string // the exact origins that browsers may call from, besides the server's own
	Development    bool     // mounts POST /dev/token

	// Media stores the bytes of files.
	Media *media.Bucket
	// MediaSecret is the secret from which the key of signed URLs is derived.
	MediaSecret []byte
	// UploadPause is the longest time in which an upload may send nothing; zero means 60 s.
	UploadPause time.Duration
	// BodyTimeout is the longest time in which the body of any other call must arrive; zero means
	// 10 s.
	BodyTimeout time.Duration
	// MediaLost is called for each request for a file whose bytes are lost. It may be nil.
	MediaLost func()

	// Heartbeat is the interval of heartbeats on a feed, and on a session's stream, to which the
	// hub sends them; zero means 10 s.
	Heartbeat time.Duration
	// CompressStreams compresses the event streams of clients that accept gzip.
	CompressStreams bool
	// TakesTLS says that the connections below TLS are hub.WriteRedirectors, so that the hub can
	// take TLS streams out of net/http too.
	TakesTLS bool
	// StreamOpens is called with the context of the request when a stream or a feed begins, before
	// anything is written. It may be nil.
	StreamOpens func(context.Context)
	// FeedWriteTimeout is the longest time in which the reader of a feed may read nothing; zero
	// means 10 s.
	FeedWriteTimeout time.Duration

	Contract   []byte // openapi.yaml
	Errors     []byte // docs/errors.md
	TokenGuide []byte // docs/tokens.md
	Web        fs.FS  // index.html, docs.html and assets/

	// TrustedProxies are the proxies whose X-Forwarded-For is used.
	TrustedProxies TrustedProxies
	// Limits bounds what is open at once in this process, and Rates how often calls are made.
	Limits Limits
	Rates  Rates
	// Limited is called whenever a request exceeds a limit, with the network of its client. It may
	// be nil.
	Limited func(limit Limit, from netip.Prefix)
	// Refused returns ErrServerFull or ErrTooManyConnections if the connection of a request exceeds
	// a limit. It may be nil.
	Refused func(ctx context.Context) error

	Log *slog.Logger
	// Observe is called after every request; route is its pattern. It may be nil.
	Observe func(route, method string, status int, took time.Duration)
}

type api struct {
	Options
	validate *validator.Validate
	feeds    chan struct{} // has one element for each open feed
	rates    rates
	shutdown *shutdownState

	streams, transfers *slots

	links     links
	mediaURLs mediaSigner
	lost      lostFiles
	// outages is for replies with 503, of which an outage causes one for each call.
	outages rareLog
}

const (
	streamPath = "/v1/events"
	// callTimeout bounds a call. Streams and transfers have no such limit.
	callTimeout = 10 * time.Second
	// maxBodyBytes bounds the body of a request. The longest text fits even if every character is
	// escaped.
	maxBodyBytes = 256 << 10
)

// New returns the whole API.
func New(opts Options) *API {
	a := &api{
		Options: opts, validate: newValidator(), rates: newRates(opts.Rates),
		feeds: make(chan struct{}, maxFeeds), shutdown: newShutdownState(),
	}
	if a.Heartbeat == 0 {
		a.Heartbeat = defaultHeartbeat
	}
	if a.HeardNodes == nil {
		a.HeardNodes = func() map[room.NodeID]time.Time { return nil }
	}
	if a.StreamOpens == nil {
		a.StreamOpens = func(context.Context) {}
	}
	if a.FeedWriteTimeout == 0 {
		a.FeedWriteTimeout = defaultFeedWriteTimeout
	}
	if a.UploadPause == 0 {
		a.UploadPause = defaultUploadPause
	}
	if a.BodyTimeout == 0 {
		a.BodyTimeout = defaultBodyTimeout
	}
	a.links = newLinks(opts.PublicURL)
	a.streams = newSlots(
		slotLimit{opts.Limits.Streams, LimitStreams, ErrServerFull},
		slotLimit{opts.Limits.StreamsPerAddress, LimitStreamsPerAddress, errTooManyStreams},
		slotLimit{opts.Limits.StreamsPerUser, LimitStreamsPerUser, errTooManyStreams},
	)
	a.transfers = newSlots(
		slotLimit{opts.Limits.Transfers, LimitTransfers, ErrServerFull},
		slotLimit{opts.Limits.TransfersPerAddress, LimitTransfersPerAddress, ErrTooManyConnections},
		slotLimit{},
	)
	a.mediaURLs = newMediaSigner(opts.MediaSecret)
	a.lost.observe, a.lost.log.interval = opts.MediaLost, lostLogInterval
	a.outages.interval = outageLogInterval
	r := chi.NewRouter()
	r.Use(a.deadlines, a.links.belowPrefix, routeByEscapedPath, a.observe, a.recoverPanic, setSecurityHeaders)
	if len(opts.AllowedOrigins) > 0 {
		r.Use(crossOrigin(opts.AllowedOrigins))
	}
	if opts.Refused != nil {
		r.Use(a.rejectRefusedConnection)
	}
	r.NotFound(a.handle(func(http.ResponseWriter, *http.Request) error { return errNoRoute }))
	r.MethodNotAllowed(a.handle(func(w http.ResponseWriter, req *http.Request) error {
		w.Header().Set("Allow", strings.Join(allowed(r, req.URL.RawPath), ", ")) // RFC 9110, section 15.5.6
		return errWrongMethod
	}))

	r.Get(streamPath, a.streamEvents)
	r.Get("/v1/admin/events", a.handle(a.streamAdminEvents))
	r.Group(func(r chi.Router) {
		r.Use(a.shutdown.countTransfer)
		r.Post("/v1/media", a.handle(a.uploadMedia))
		a.mountUploads(r)
		r.Get("/v1/media/{mediaID}/{fileName}", a.handle(a.downloadMedia))
		r.Head("/v1/media/{mediaID}/{fileName}", a.handle(a.downloadMedia))
	})
	r.Group(func(r chi.Router) {
		r.Use(timeLimit)
		r.Post("/v1/sessions", a.handle(a.createSession))
		r.Get("/v1/sessions/current", a.withSession(a.getSession))
		r.Delete("/v1/sessions/current", a.withSession(a.endSession))
		r.Get("/v1/sessions/current/rooms", a.withSession(a.listSessionRooms))
		r.Delete("/v1/sessions/current/rooms", a.withSession(a.leaveAllRooms))
		r.Put("/v1/sessions/current/token", a.withSession(a.renewToken, inBody))
		r.Post("/v1/sessions/current/stream-ticket", a.withSession(a.createStreamTicket))

		r.Post("/v1/rooms", a.withSession(a.createRoom, inBody))
		r.Get("/v1/rooms/{roomID}", a.withRoom(a.getRoom, inQuery))
		r.Patch("/v1/rooms/{roomID}", a.withRoom(a.updateRoom, inBody))
		r.Post("/v1/rooms/{roomID}/join", a.withRoom(a.joinRoom, inBody))
		r.Post("/v1/rooms/{roomID}/enter", a.withRoom(a.enterRoom, inBody))
		r.Post("/v1/rooms/{roomID}/switch", a.withRoom(a.switchRoom, inBody))
		r.Post("/v1/rooms/{roomID}/leave", a.withRoom(a.leaveRoom))
		r.Get("/v1/rooms/{roomID}/members", a.withRoom(a.listMembers, inQuery))
		r.Get("/v1/rooms/{roomID}/members/count", a.withRoom(a.countMembers))
		r.Post("/v1/rooms/{roomID}/kick", a.withRoom(a.kickMembers, inBody))
		r.Get("/v1/rooms/{roomID}/attributes", a.withRoom(a.getRoomAttributes))
		r.Patch("/v1/rooms/{roomID}/attributes", a.withRoom(a.updateRoomAttributes, inBody))
		r.Get("/v1/rooms/{roomID}/member-attributes", a.withRoom(a.listMemberAttributes, inQuery))
		r.Patch("/v1/rooms/{roomID}/member-attributes", a.withRoom(a.updateMemberAttributes, inBody))
		r.Post("/v1/rooms/{roomID}/messages", a.withRoom(a.sendRoomMessage, inBody))
		r.Get("/v1/rooms/{roomID}/messages", a.withRoom(a.listRoomMessages, inQuery))
		r.Delete("/v1/rooms/{roomID}/messages/{messageID}", a.withRoom(a.recallMessage))

		r.Post("/v1/users/{userID}/messages", a.withPeer(a.sendPeerMessage, inBody))
		r.Get("/v1/users/{userID}/messages", a.withPeer(a.listPeerMessages, inQuery))
		r.Delete("/v1/users/{userID}/messages/{messageID}", a.withPeer(a.recallPeerMessage))

		r.Get("/v1/conversations", a.withSession(a.listConversations, inQuery))
		r.Get("/v1/conversations/{userID}", a.withPeer(a.getConversation))
		r.Post("/v1/conversations/{userID}/read", a.withPeer(a.readConversation, inBody))
		r.Delete("/v1/conversations/{userID}", a.withPeer(a.deleteConversation))
		r.Post("/v1/inbox/read", a.withSession(a.readAllConversations))
		r.Get("/v1/blocks", a.withSession(a.listBlocks, inQuery))
		r.Put("/v1/blocks/{userID}", a.withPeer(a.blockUser))
		r.Delete("/v1/blocks/{userID}", a.withPeer(a.unblockUser))
		r.Get("/v1/statuses", a.withSession(a.listStatuses, inQuery))
		r.Put("/v1/status", a.withSession(a.updateStatus, inBody))
		r.Get("/v1/status-subscriptions", a.withSession(a.listStatusSubscriptions, inQuery))
		r.Post("/v1/status-subscriptions", a.withSession(a.subscribeStatuses, inBody))
		r.Delete("/v1/status-subscriptions", a.withSession(a.unsubscribeStatuses, inQuery))
		r.Get("/v1/users", a.withSession(a.queryUsers, inQuery))
		r.Patch("/v1/profile", a.withSession(a.updateProfile, inBody))

		r.Get("/v1/media/{mediaID}", a.withSession(a.getMedia))

		r.Get("/v1/admin/nodes", a.withAdmin(a.adminListNodes))
		r.Get("/v1/admin/rooms", a.withAdmin(a.adminListRooms, inQuery))
		r.Post("/v1/admin/rooms", a.withAdmin(a.adminCreateRoom, inBody))
		r.Get("/v1/admin/rooms/{roomID}", a.withAdminRoom(a.adminGetRoom))
		r.Patch("/v1/admin/rooms/{roomID}", a.withAdminRoom(a.adminUpdateRoom, inBody))
		r.Delete("/v1/admin/rooms/{roomID}", a.withAdminRoom(a.adminDestroyRoom, inQuery))
		r.Get("/v1/admin/rooms/{roomID}/members", a.withAdminRoom(a.adminListMembers, inQuery))
		r.Delete("/v1/admin/rooms/{roomID}/members/{userID}", a.withAdminMember(a.adminKickMember, inQuery))
		r.Post("/v1/admin/rooms/{roomID}/kick", a.withAdminRoom(a.adminKickMembers, inBody))
		r.Get("/v1/admin/rooms/{roomID}/bans", a.withAdminRoom(a.adminListBans))
		r.Delete("/v1/admin/rooms/{roomID}/bans/{userID}", a.withAdminMember(a.adminUnban))
		r.Get("/v1/admin/rooms/{roomID}/messages", a.withAdminRoom(a.adminListMessages, inQuery))
		r.Post("/v1/admin/rooms/{roomID}/messages", a.withAdminRoom(a.adminSendMessage, inBody))
		r.Delete("/v1/admin/rooms/{roomID}/messages/{messageID}", a.withAdminRoom(a.adminRecallMessage))
		r.Get("/v1/admin/rooms/{roomID}/attributes", a.withAdminRoom(a.adminGetRoomAttributes))
		r.Patch("/v1/admin/rooms/{roomID}/attributes", a.withAdminRoom(a.adminUpdateRoomAttributes, inBody))
		r.Get("/v1/admin/rooms/{roomID}/member-attributes", a.withAdminRoom(a.adminListMemberAttributes, inQuery))
		r.Patch("/v1/admin/rooms/{roomID}/member-attributes", a.withAdminRoom(a.adminUpdateMemberAttributes, inBody))
		a.mountBroadcasts(r)
		r.Get("/v1/admin/users", a.withAdmin(a.adminListUsers, inQuery))
		r.Get("/v1/admin/users/{userID}/messages", a.withAdminUser(a.adminListUserMessages, inQuery))
		r.Post("/v1/admin/users/{userID}/messages", a.withAdminUser(a.adminSendPeerMessage, inBody))
		r.Get("/v1/admin/users/{userID}/rooms", a.withAdminUser(a.adminListUserRooms))
		r.Get("/v1/admin/users/{userID}/profile", a.withAdminUser(a.adminGetProfile))
		r.Patch("/v1/admin/users/{userID}/profile", a.withAdminUser(a.adminUpdateProfile, inBody))
		r.Put("/v1/admin/users/{userID}/tokens-void-before", a.withAdminUser(a.adminVoidTokens, inBody))
		r.Get("/v1/admin/users/{userID}/sessions", a.withAdminUser(a.adminListUserSessions))
		r.Delete("/v1/admin/users/{userID}/sessions", a.withAdminUser(a.adminEndUserSessions, inQuery))
		r.Delete("/v1/admin/users/{userID}/sessions/{sessionID}", a.withAdminUser(a.adminEndSession, inQuery))

		if opts.Development {
			r.Post("/dev/token", a.handle(a.createDevelopmentToken))
		}
	})
	a.mountPages(r)
	return &API{r, a.shutdown}
}

// allowed returns the methods that a path accepts.
func allowed(routes chi.Routes, path string) []string {
	methods := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	return slices.DeleteFunc(methods, func(method string) bool {
		return !routes.Match(chi.NewRouteContext(), method, path)
	})
}
