package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"parlor/auth"
	"parlor/handlers"
	"parlor/room"
)

// Bounds of the settings. Those of rooms are in package room, and the defaults in the tags of the
// fields.
const (
	maxDeliveryWindow   = time.Second
	minHeartbeat        = 5 * time.Second // shorter intervals only drain batteries
	maxHeartbeat        = 120 * time.Second
	minUnacked          = 5 * time.Second // phones need some seconds to change networks
	maxPeerTimeout      = 10 * time.Minute
	maxDrain            = 10 * time.Minute
	maxMaxConnections   = 10_000_000
	maxRoomsPerUser     = 64 // a cursor has a position for each of them
	maxMaxRooms         = 100_000_000
	maxRoomsPerCreator  = 100_000 // they are counted whenever the user creates one
	maxSessionsPerUser  = 10_000
	maxSubscriptions    = 10_000 // all of them are counted whenever the user subscribes
	maxMessageRate      = 10_000
	maxRate             = 100_000
	minBarrageBytes     = 8 << 10 // the largest barrage message with its extended data
	maxMediaKeepFree    = 1 << 20 // MiB, which is 1 TiB
	maxMediaBytes       = 1 << 30 // MiB, which is 1 PiB
	minTokenLifetime    = time.Minute
	maxTokenLifetime    = 10 * 365 * 24 * time.Hour
	minFeedRetention    = time.Minute // a consumer takes longer than seconds to restart
	maxFeedRetention    = 7 * 24 * time.Hour
	minMessageRetention = time.Hour // streams resume from the log
	maxMessageRetention = 10 * 365 * 24 * time.Hour
	minSessionIdle      = time.Hour
	maxSessionIdle      = 365 * 24 * time.Hour
	minUserRetention    = 24 * time.Hour
	maxUserRetention    = 10 * 365 * 24 * time.Hour
	minPeerRetention    = time.Minute
	maxPeerRetention    = 365 * 24 * time.Hour
)

// ServeCmd is the server's configuration, from flags and the environment. The settings table of
// docs/operations.md is generated from the help texts.
type ServeCmd struct {
	DatabaseURL   auth.Secret `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"URL of a PostgreSQL database, version 15 or newer. Empty: Parlor runs a private one in the folder postgres of the data folder."`
	Data          string      `env:"PARLOR_DATA" default:"./data" placeholder:"DIR" help:"Data folder. Only one running server can use it."`
	MediaURL      auth.Secret `name:"media-url" env:"PARLOR_MEDIA_URL" placeholder:"URL" help:"Where uploaded files are stored: file:///folder, or s3://bucket?region=REGION with the usual AWS_ variables. Empty: the folder media of the data folder."`
	MediaKeepFree int         `env:"PARLOR_MEDIA_KEEP_FREE" default:"512" placeholder:"MIB" help:"MiB to leave free on the disk that holds the uploaded files, for the database and other programs. Uploads are rejected when less is free. 0 to 1048576."`
	MediaPerUser  int         `env:"PARLOR_MEDIA_PER_USER" default:"10240" placeholder:"MIB" help:"MiB of stored files per user, sent or unsent, until they are deleted. A file counts as at least 4 KiB. 0 to 1073741824; 0 means no limit."`
	MediaTotal    int         `env:"PARLOR_MEDIA_TOTAL" default:"1048576" placeholder:"MIB" help:"MiB of stored files of all users together, counted the same way. 0 to 1073741824; 0 means no limit."`
	Migrate       bool        `env:"PARLOR_MIGRATE" help:"Apply pending migrations to the database at DATABASE_URL when the server starts. A private database is always migrated at the start."`

	Signing
	Bus

	Secrets   auth.Secret `env:"PARLOR_SECRETS" placeholder:"KID=SECRET,…" help:"Additional keys for HS256 tokens, selected by the token's kid. Each has at least 32 bytes and contains no comma."`
	JWKSURL   string      `name:"jwks-url" env:"PARLOR_JWKS_URL" placeholder:"URL" help:"URL of a JWK set with the public keys of RS256 and EdDSA tokens. HTTPS, or plain HTTP on a loopback address."`
	JWKSAdmin bool        `name:"jwks-admin" env:"PARLOR_JWKS_ADMIN" help:"Accept admin tokens signed by the keys of the JWK set. Anyone who can get a token with the scope admin from that issuer then controls all rooms."`

	AdminTokensVoidBefore time.Time `env:"PARLOR_ADMIN_TOKENS_VOID_BEFORE" placeholder:"TIME" help:"Reject admin tokens that were issued (iat) before this time, or that have no iat. Example: 2026-11-21T15:00:00Z. Empty: accept them."`

	SignedNames bool `env:"PARLOR_SIGNED_NAMES" help:"Show users under the name in their token (the claim name): the userName that a client gives at the login is used only if the token has none. Without this, the client's name wins, and users can change their names."`

	Listen         string   `env:"PARLOR_LISTEN" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address of the API. An empty host means all interfaces."`
	OpsListen      string   `env:"PARLOR_OPS_LISTEN" default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Address of health checks, metrics and pprof. It has no authentication: keep it private. Empty: disabled."`
	PublicURL      string   `name:"public-url" env:"PARLOR_PUBLIC_URL" placeholder:"URL" help:"URL at which clients reach the API, used for links in replies. It may have a path. Default: the URL of each request."`
	AllowedOrigins []string `env:"PARLOR_ALLOWED_ORIGINS" placeholder:"ORIGIN,…" help:"Origins of web pages on other hosts that may call the API. Each must match exactly. Example: https://app.example.com."`
	TLSCert        string   `name:"tls-cert" env:"PARLOR_TLS_CERT" placeholder:"FILE" help:"File with the API's certificate chain (PEM). Needs PARLOR_TLS_KEY. Reloaded when the files change. Without both, the API uses plain HTTP."`
	TLSKey         string   `name:"tls-key" env:"PARLOR_TLS_KEY" placeholder:"FILE" help:"File with the certificate's private key (PEM)."`

	TrustedProxies []string `env:"PARLOR_TRUSTED_PROXIES" placeholder:"ADDRESS,…" help:"Addresses and networks (10.0.0.0/8) of reverse proxies. X-Forwarded-For and PROXY protocol headers are accepted only from these."`
	ProxyProtocol  bool     `env:"PARLOR_PROXY_PROTOCOL" help:"Expect a PROXY protocol header, version 1 or 2, at the start of each connection from a trusted proxy."`

	MaxConnections        int `env:"PARLOR_MAX_CONNECTIONS" default:"0" help:"Maximum number of open client connections. Further ones are rejected with 503 and Retry-After. 0: derived from the limit on open files (ulimit -n), minus what the database, files and health checks need, and at most 100000."`
	ConnectionsPerAddress int `env:"PARLOR_CONNECTIONS_PER_ADDRESS" default:"0" help:"Maximum number of open connections per client address (IPv6: per /64). Further ones are rejected with 503 and Retry-After. 0: half of PARLOR_MAX_CONNECTIONS."`

	MaxStreams          int           `env:"PARLOR_MAX_STREAMS" default:"0" help:"Maximum number of open event streams. Further ones are rejected with 503 and Retry-After. 0: as many as connections."`
	StreamsPerAddress   int           `env:"PARLOR_STREAMS_PER_ADDRESS" default:"0" help:"Maximum number of open event streams per client address (IPv6: per /64). 0: half of PARLOR_MAX_STREAMS."`
	StreamsPerUser      int           `env:"PARLOR_STREAMS_PER_USER" default:"0" help:"Maximum number of open event streams per user. 0: as many as sessions."`
	MaxMembersCeiling   int           `env:"PARLOR_MAX_MEMBERS_CEILING" default:"1000000" help:"Highest maxMembers that a client can set when it creates a room. The admin API can exceed it. PARLOR_MAX_MEMBERS to 1000000."`
	DestroyDelayCeiling time.Duration `env:"PARLOR_DESTROY_DELAY_CEILING" default:"3h" help:"Longest destroyDelay that a client can set when it creates a room. The admin API can exceed it. PARLOR_DESTROY_DELAY to 3h."`

	DestroyDelay     time.Duration `env:"PARLOR_DESTROY_DELAY" default:"0s" help:"How long a room is kept after its last member leaves, unless the room sets its own value. 0s to 3h."`
	UnusedTimeout    time.Duration `env:"PARLOR_UNUSED_TIMEOUT" default:"30s" help:"How long an unused room is kept, unless the room sets its own value. 1s to 24h."`
	MemberTimeout    time.Duration `env:"PARLOR_MEMBER_TIMEOUT" default:"30s" help:"How long a member whose stream was lost stays in a room, unless the room sets its own value. 5s to 300s."`
	MaxMembers       int           `env:"PARLOR_MAX_MEMBERS" default:"500" help:"Maximum number of members of a room, unless the room sets its own value. 1 to 1000000."`
	SameUser         string        `env:"PARLOR_SAME_USER" default:"allow" enum:"allow,replace,reject" help:"What happens when another session of a member joins, unless the room sets its own value. allow: both sessions stay; replace: the first session is removed; reject: the second session is rejected."`
	HistoryVisible   string        `env:"PARLOR_HISTORY_VISIBLE" default:"all" enum:"all,sinceJoined" help:"How much of a room's history members can read, unless the room sets its own value. all: everything that is stored; sinceJoined: messages since the member joined."`
	History          string        `env:"PARLOR_HISTORY" default:"stored" enum:"stored,none" help:"Whether rooms have a history, unless the room sets its own value. stored: members can list earlier messages; none: messages are only delivered, and stored for 20 minutes for clients that reconnect."`
	MaxRooms         int           `env:"PARLOR_MAX_ROOMS" default:"0" help:"Maximum number of existing rooms. With a limit, rooms are created one after another. 0 to 100000000; 0 means no limit."`
	RoomsPerCreator  int           `env:"PARLOR_ROOMS_PER_CREATOR" default:"1000" help:"Maximum number of existing rooms that one user has created. Those that admins created do not count. 0 to 100000; 0 means no limit."`
	Presence         string        `env:"PARLOR_PRESENCE" default:"full" enum:"full,batched,counts,none" help:"How joins and leaves are published, unless the room sets its own value. full: one by one in rooms of fewer than 100 members, and in larger ones in batches, about once a second; batched: always in batches; counts: only the number of members, about once a second; none: not at all."`
	NamesUpTo        int           `env:"PARLOR_NAMES_UP_TO" default:"1000000" help:"Number of members above which a room publishes counts instead of joins and leaves, unless the room sets its own value. 1 to 1000000."`
	MemberStates     bool          `env:"PARLOR_MEMBER_STATES" help:"Publish which members are reconnecting, unless the room sets its own value."`
	RoomsPerUser     int           `env:"PARLOR_ROOMS_PER_USER" default:"20" help:"Maximum number of rooms a user can be in at once. 1 to 64."`
	SessionsPerUser  int           `env:"PARLOR_SESSIONS_PER_USER" default:"10" help:"Maximum number of sessions per user. A further login ends the oldest session. 1 to 10000."`
	MessageRate      int           `env:"PARLOR_MESSAGE_RATE" default:"10" help:"Messages per second that a user can send over all sessions, not counting barrage messages. 0 to 10000; 0 means no limit, as for all rates."`
	BarrageRate      int           `env:"PARLOR_BARRAGE_RATE" default:"100" help:"Barrage messages per second that a user can send. 0 to 100000."`
	BarrageBytes     int           `env:"PARLOR_BARRAGE_BYTES" default:"131072" help:"Bytes of barrage messages per second that a user can send. 0, or 8192 to 1073741824."`
	LoginRate        int           `env:"PARLOR_LOGIN_RATE" default:"60" help:"Logins and token renewals per minute and user. 0 to 100000."`
	AddressLoginRate int           `env:"PARLOR_ADDRESS_LOGIN_RATE" default:"100" help:"Logins per second from one client address (IPv6: per /64), averaged over 100 seconds: with 100, a burst of 10000 is allowed. 0 to 100000."`
	RoomRate         int           `env:"PARLOR_ROOM_RATE" default:"60" help:"Rooms per minute that a user can create. 0 to 100000."`
	JoinRate         int           `env:"PARLOR_JOIN_RATE" default:"300" help:"Calls per minute with which a user can create, join, enter, switch or leave rooms. 0 to 100000."`
	AttributeRate    int           `env:"PARLOR_ATTRIBUTE_RATE" default:"20" help:"Calls per second with which a user can change attributes of rooms and members, and settings of rooms. 0 to 100000."`
	InboxRate        int           `env:"PARLOR_INBOX_RATE" default:"20" help:"Calls per second with which a user can mark conversations as read, delete them, and change the block list. 0 to 100000."`
	StatusRate       int           `env:"PARLOR_STATUS_RATE" default:"60" help:"Calls per minute with which a user can change the custom status, and subscribe to statuses or unsubscribe. 0 to 100000."`
	StatusVisible    string        `env:"PARLOR_STATUS_VISIBLE" default:"everybody" enum:"everybody,acquaintances,nobody" help:"Whose status a user can see. everybody: that of every user; acquaintances: that of users who are in a room with the user, or have lately written to the user; nobody: only their own."`
	Subscriptions    int           `name:"status-subscriptions" env:"PARLOR_STATUS_SUBSCRIPTIONS" default:"3000" help:"Maximum number of users whose status a user can subscribe to. 1 to 10000."`
	ProfileRate      int           `env:"PARLOR_PROFILE_RATE" default:"10" help:"Changes of the own profile per minute and user. 0 to 100000."`
	MessageRetention time.Duration `env:"PARLOR_MESSAGE_RETENTION" default:"168h" help:"How long messages and other events of a room are stored while the room exists. 1h to 87600h; 0s means forever."`
	FeedRetention    time.Duration `env:"PARLOR_FEED_RETENTION" default:"1h" help:"How long the event feed of all rooms keeps the events of a destroyed room, and those of users, for consumers that were disconnected. 1m to 168h."`
	FeedPeers        bool          `env:"PARLOR_FEED_PEERS" help:"Keeps messages between users for the event feed too, for consumers that include peers. All servers need the same value."`
	SessionIdle      time.Duration `env:"PARLOR_SESSION_IDLE" default:"168h" help:"How long a session without a stream and without a room lasts, even if its token is valid for longer. 1h to 8760h."`
	UserRetention    time.Duration `env:"PARLOR_USER_RETENTION" default:"2160h" help:"How long a user without a session can still be sent messages. 24h to 87600h."`
	PeerRetention    time.Duration `env:"PARLOR_PEER_RETENTION" default:"168h" help:"How long messages between users are stored, for recipients who are offline and as history. 1m to 8760h."`
	Heartbeat        time.Duration `env:"PARLOR_HEARTBEAT" default:"10s" help:"Interval of the comments that keep an idle stream open. Must be shorter than the idle timeout of every proxy on the way. 5s to 120s."`
	DeliveryWindow   time.Duration `env:"PARLOR_DELIVERY_WINDOW" default:"50ms" help:"How long events of a busy room may wait for others, so that one write delivers several. Only rooms that take more than a quarter of a processor wait, and stored messages wait at most a fifth of this. 0s to 1s; 0s means that no event waits."`
	Compression      string        `name:"stream-compression" env:"PARLOR_STREAM_COMPRESSION" default:"gzip" enum:"gzip,off" help:"Compression of event streams. gzip: for clients that accept it, as all browsers do; off: for none."`
	PeerTimeout      time.Duration `env:"PARLOR_PEER_TIMEOUT" default:"20s" help:"How long after its last packet a client that lost its network is considered gone (Linux only). The memberTimeout of its rooms starts then. At least PARLOR_HEARTBEAT plus 5s, at most 10m."`
	Drain            time.Duration `env:"PARLOR_DRAIN" default:"6s" help:"Maximum time a stopping server keeps serving while clients reconnect elsewhere and uploads and downloads finish. It stops earlier when none are left. 0s to 10m."`
	DrainDelay       time.Duration `env:"PARLOR_DRAIN_DELAY" default:"2s" help:"Part of PARLOR_DRAIN that passes before streams are closed, so that load balancers notice first that /readyz fails. Capped at half of PARLOR_DRAIN; none in development mode. 0s to 10m."`

	Dev bool `name:"dev" env:"PARLOR_DEV" help:"Development mode: POST /dev/token gives anyone who can reach the API a token for any user. Only for trying Parlor out, on a loopback address and with the private database."`

	LogFormat string     `env:"PARLOR_LOG_FORMAT" default:"text" enum:"text,json" help:"Format of the log on standard error: text or json."`
	LogLevel  slog.Level `env:"PARLOR_LOG_LEVEL" default:"info" placeholder:"LEVEL" help:"Lowest level that is logged: debug, info, warn or error."`
}

// validate returns all errors at once, one per line.
func (c *ServeCmd) validate() error {
	var faults []error
	fault := func(setting, format string, args ...any) {
		faults = append(faults, fmt.Errorf(setting+": "+format, args...))
	}

	if c.DatabaseURL != "" {
		if err := checkDatabaseURL(c.DatabaseURL); err != nil {
			fault("DATABASE_URL", "%w", err)
		}
		if c.Secret == "" {
			fault("PARLOR_SECRET", "is required with DATABASE_URL, so that tokens stay valid on every server")
		}
	}
	if c.Data == "" {
		fault("PARLOR_DATA", "is empty")
	}
	c.Signing.check(fault)
	c.Bus.check(fault)
	keyed, err := c.keyedSecrets()
	if err != nil {
		fault("PARLOR_SECRETS", "%w", err)
	}
	for kid, secret := range keyed {
		if secret == c.AdminSecret {
			fault("PARLOR_ADMIN_SECRET", "is the same as secret %q of PARLOR_SECRETS: anyone who signs user tokens could sign admin tokens", kid)
		}
	}
	if c.JWKSURL != "" {
		u, err := parseHTTPURL(c.JWKSURL)
		switch {
		case err != nil:
			fault("PARLOR_JWKS_URL", "%w", err)
		case !auth.SafeURL(u):
			fault("PARLOR_JWKS_URL", "must be https: anyone who can change the keys in transit can forge any token")
		}
		// An identity provider signs the tokens of all its applications with the same keys.
		if c.TokenAudience == "" {
			fault("PARLOR_TOKEN_AUDIENCE", "is required with PARLOR_JWKS_URL, because its keys also sign tokens for other applications")
		}
		if c.TokenIssuer == "" {
			fault("PARLOR_TOKEN_ISSUER", "is required with PARLOR_JWKS_URL, because its keys may belong to several issuers")
		}
	} else if c.JWKSAdmin {
		fault("PARLOR_JWKS_ADMIN", "requires PARLOR_JWKS_URL")
	}
	if c.AdminTokensVoidBefore.After(time.Now()) {
		fault("PARLOR_ADMIN_TOKENS_VOID_BEFORE", "is in the future: nobody could use the admin API until then")
	}

	if err := checkAddress(c.Listen); err != nil {
		fault("PARLOR_LISTEN", "%w", err)
	}
	if c.OpsListen != "" {
		if err := checkAddress(c.OpsListen); err != nil {
			fault("PARLOR_OPS_LISTEN", "%w", err)
		} else if c.OpsListen == c.Listen && !strings.HasSuffix(c.Listen, ":0") {
			fault("PARLOR_OPS_LISTEN", "is the same as PARLOR_LISTEN")
		}
	}
	if c.PublicURL != "" {
		if err := checkPublicURL(c.PublicURL); err != nil {
			fault("PARLOR_PUBLIC_URL", "%w", err)
		}
	}
	for _, origin := range c.AllowedOrigins {
		if err := checkOrigin(origin); err != nil {
			fault("PARLOR_ALLOWED_ORIGINS", "%w", err)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		fault("PARLOR_TLS_CERT", "must be set together with PARLOR_TLS_KEY")
	} else if c.TLSCert != "" {
		if _, err := openKeyPair(c.TLSCert, c.TLSKey, slog.New(slog.DiscardHandler)); err != nil {
			faults = append(faults, err)
		}
	}

	if _, err := c.trustedProxies(); err != nil {
		fault("PARLOR_TRUSTED_PROXIES", "%w", err)
	}
	if c.ProxyProtocol && len(c.TrustedProxies) == 0 {
		fault("PARLOR_PROXY_PROTOCOL", "requires PARLOR_TRUSTED_PROXIES: otherwise any client could claim any address")
	}
	if c.BarrageBytes > 0 && c.BarrageBytes < minBarrageBytes {
		fault("PARLOR_BARRAGE_BYTES", "%d is less than %d, the size of the largest barrage message", c.BarrageBytes, minBarrageBytes)
	}
	if c.MaxConnections != 0 && (c.MaxConnections < minConnections || c.MaxConnections > maxMaxConnections) {
		fault("PARLOR_MAX_CONNECTIONS", "%d is neither 0 nor %d to %d", c.MaxConnections, minConnections, maxMaxConnections)
	}
	checkRange(fault, "PARLOR_CONNECTIONS_PER_ADDRESS", c.ConnectionsPerAddress, 0, maxMaxConnections)
	checkRange(fault, "PARLOR_MAX_STREAMS", c.MaxStreams, 0, maxMaxConnections)
	checkRange(fault, "PARLOR_STREAMS_PER_ADDRESS", c.StreamsPerAddress, 0, maxMaxConnections)
	checkRange(fault, "PARLOR_STREAMS_PER_USER", c.StreamsPerUser, 0, maxMaxConnections)
	checkRange(fault, "PARLOR_MESSAGE_RATE", c.MessageRate, 0, maxMessageRate)
	checkRange(fault, "PARLOR_BARRAGE_RATE", c.BarrageRate, 0, maxRate)
	checkRange(fault, "PARLOR_BARRAGE_BYTES", c.BarrageBytes, 0, 1<<30)
	checkRange(fault, "PARLOR_LOGIN_RATE", c.LoginRate, 0, maxRate)
	checkRange(fault, "PARLOR_ADDRESS_LOGIN_RATE", c.AddressLoginRate, 0, maxRate)
	checkRange(fault, "PARLOR_ROOM_RATE", c.RoomRate, 0, maxRate)
	checkRange(fault, "PARLOR_JOIN_RATE", c.JoinRate, 0, maxRate)
	checkRange(fault, "PARLOR_PROFILE_RATE", c.ProfileRate, 0, maxRate)
	checkRange(fault, "PARLOR_ATTRIBUTE_RATE", c.AttributeRate, 0, maxRate)
	checkRange(fault, "PARLOR_INBOX_RATE", c.InboxRate, 0, maxRate)
	checkRange(fault, "PARLOR_STATUS_RATE", c.StatusRate, 0, maxRate)
	checkRange(fault, "PARLOR_STATUS_SUBSCRIPTIONS", c.Subscriptions, 1, maxSubscriptions)
	checkRange(fault, "PARLOR_MEMBER_TIMEOUT", c.MemberTimeout, room.MinMemberTimeout, room.MaxMemberTimeout)
	checkRange(fault, "PARLOR_MAX_MEMBERS", c.MaxMembers, 1, room.MaxMaxMembers)
	checkRange(fault, "PARLOR_NAMES_UP_TO", c.NamesUpTo, 1, room.MaxMaxMembers)
	checkRange(fault, "PARLOR_DESTROY_DELAY", c.DestroyDelay, 0, room.MaxDestroyDelay)
	if c.MaxMembersCeiling < min(c.MaxMembers, room.MaxMaxMembers) || c.MaxMembersCeiling > room.MaxMaxMembers {
		fault("PARLOR_MAX_MEMBERS_CEILING", "%d is outside PARLOR_MAX_MEMBERS to %d", c.MaxMembersCeiling, room.MaxMaxMembers)
	}
	if c.DestroyDelayCeiling < min(c.DestroyDelay, room.MaxDestroyDelay) || c.DestroyDelayCeiling > room.MaxDestroyDelay {
		fault("PARLOR_DESTROY_DELAY_CEILING", "%s is outside PARLOR_DESTROY_DELAY to %s", c.DestroyDelayCeiling, room.MaxDestroyDelay)
	}
	checkRange(fault, "PARLOR_UNUSED_TIMEOUT", c.UnusedTimeout, room.MinUnusedTimeout, room.MaxUnusedTimeout)
	checkRange(fault, "PARLOR_SESSIONS_PER_USER", c.SessionsPerUser, 1, maxSessionsPerUser)
	checkRange(fault, "PARLOR_MEDIA_KEEP_FREE", c.MediaKeepFree, 0, maxMediaKeepFree)
	checkRange(fault, "PARLOR_MEDIA_PER_USER", c.MediaPerUser, 0, maxMediaBytes)
	checkRange(fault, "PARLOR_MEDIA_TOTAL", c.MediaTotal, 0, maxMediaBytes)
	checkRange(fault, "PARLOR_MAX_ROOMS", c.MaxRooms, 0, maxMaxRooms)
	checkRange(fault, "PARLOR_ROOMS_PER_CREATOR", c.RoomsPerCreator, 0, maxRoomsPerCreator)
	checkRange(fault, "PARLOR_ROOMS_PER_USER", c.RoomsPerUser, 1, maxRoomsPerUser)
	checkRange(fault, "PARLOR_FEED_RETENTION", c.FeedRetention, minFeedRetention, maxFeedRetention)
	if c.MessageRetention != 0 && (c.MessageRetention < minMessageRetention || c.MessageRetention > maxMessageRetention) {
		fault("PARLOR_MESSAGE_RETENTION", "%s is neither 0s nor %s to %s", c.MessageRetention, minMessageRetention, maxMessageRetention)
	}
	checkRange(fault, "PARLOR_SESSION_IDLE", c.SessionIdle, minSessionIdle, maxSessionIdle)
	checkRange(fault, "PARLOR_USER_RETENTION", c.UserRetention, minUserRetention, maxUserRetention)
	checkRange(fault, "PARLOR_PEER_RETENTION", c.PeerRetention, minPeerRetention, maxPeerRetention)
	checkRange(fault, "PARLOR_HEARTBEAT", c.Heartbeat, minHeartbeat, maxHeartbeat)
	if least := c.Heartbeat + minUnacked; c.PeerTimeout < least || c.PeerTimeout > maxPeerTimeout {
		fault("PARLOR_PEER_TIMEOUT", "%s is outside %s (PARLOR_HEARTBEAT plus %s) to %s", c.PeerTimeout, least, minUnacked, maxPeerTimeout)
	}
	checkRange(fault, "PARLOR_DELIVERY_WINDOW", c.DeliveryWindow, 0, maxDeliveryWindow)
	checkRange(fault, "PARLOR_DRAIN", c.Drain, 0, maxDrain)
	checkRange(fault, "PARLOR_DRAIN_DELAY", c.DrainDelay, 0, maxDrain)

	if c.Dev {
		for _, err := range c.notDevelopment() {
			fault("PARLOR_DEV", "%w", err)
		}
	}

	return errors.Join(faults...)
}

// checkRange reports a setting whose value is not between least and most.
func checkRange[T int | time.Duration](fault func(setting, format string, args ...any), setting string, value, least, most T) {
	if value < least || value > most {
		fault(setting, "%v is outside %v to %v", value, least, most)
	}
}

// ceilings returns the highest values that clients may set when they create a room.
func (c *ServeCmd) ceilings() room.Ceilings {
	delay := room.Seconds(c.DestroyDelayCeiling / time.Second)
	ceilings := room.Ceilings{MaxMembers: &c.MaxMembersCeiling, DestroyDelay: &delay}
	if c.MessageRetention > 0 {
		ceilings.RetentionDays = new(int(c.MessageRetention / (24 * time.Hour)))
	}
	return ceilings
}

// notDevelopment returns an error if the configuration has settings of a production server.
// Development mode gives away tokens for all users, so it is never inferred, and is rejected
// together with any setting that only a server with real users has.
func (c *ServeCmd) notDevelopment() (faults []error) {
	for _, production := range []struct {
		setting string
		set     bool
	}{
		{"DATABASE_URL", c.DatabaseURL != ""},
		{"PARLOR_SECRET", c.Secret != ""},
		{"PARLOR_SECRETS", c.Secrets != ""},
		{"PARLOR_ADMIN_SECRET", c.AdminSecret != ""},
		{"PARLOR_JWKS_URL", c.JWKSURL != ""},
		{"PARLOR_PUBLIC_URL", c.PublicURL != ""},
		{"PARLOR_TLS_CERT", c.TLSCert != "" || c.TLSKey != ""},
	} {
		if production.set {
			faults = append(faults, fmt.Errorf("cannot be combined with %s: development mode gives anyone a token for any user", production.setting))
		}
	}
	if host, _, err := net.SplitHostPort(c.Listen); err == nil && !isLoopback(host) {
		faults = append(faults, fmt.Errorf("requires a loopback address, but PARLOR_LISTEN is %q", c.Listen))
	}
	return faults
}

// keyedSecrets returns PARLOR_SECRETS by key ID. Its errors contain no secret.
func (c *ServeCmd) keyedSecrets() (map[string]auth.Secret, error) {
	secrets := map[string]auth.Secret{}
	if c.Secrets == "" {
		return secrets, nil
	}
	for i, pair := range strings.Split(string(c.Secrets), ",") {
		kid, secret, found := strings.Cut(pair, "=")
		kid = strings.TrimSpace(kid)
		switch {
		case !found || kid == "":
			return nil, fmt.Errorf("entry %d is not of the form kid=secret", i+1)
		case len(secret) < auth.MinSecretBytes:
			return nil, fmt.Errorf("the secret of %q has %d bytes; at least %d are required", kid, len(secret), auth.MinSecretBytes)
		case secrets[kid] != "":
			return nil, fmt.Errorf("%q appears twice", kid)
		}
		secrets[kid] = auth.Secret(secret)
	}
	return secrets, nil
}

// trustedProxies returns PARLOR_TRUSTED_PROXIES as networks.
func (c *ServeCmd) trustedProxies() (handlers.TrustedProxies, error) {
	var trusted handlers.TrustedProxies
	for _, text := range c.TrustedProxies {
		network, err := netip.ParsePrefix(text)
		if address, single := netip.ParseAddr(text); single == nil {
			network, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", text)
		case network.Bits() == 0:
			return nil, fmt.Errorf("%q would trust every client", text)
		}
		trusted = append(trusted, network.Masked())
	}
	return trusted, nil
}

// logger returns the program's log.
func (c *ServeCmd) logger(to io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel, ReplaceAttr: durationsInMilliseconds}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}

// durationsInMilliseconds adds the unit to the name of every logged duration. In JSON it would be a
// bare number of nanoseconds otherwise.
func durationsInMilliseconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindDuration {
		return a
	}
	return slog.Float64(a.Key+"Ms", float64(a.Value.Duration().Microseconds())/1000)
}

// checkDatabaseURL parses the URL as the store's pool will. The driver's errors do not contain the
// password.
func checkDatabaseURL(address auth.Secret) error {
	_, err := pgxpool.ParseConfig(string(address))
	return err
}

// checkAddress returns an error if the server cannot listen on an address of this form.
func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not of the form host:port", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q does not have a port between 0 and 65535", address)
	}
	return nil
}

// parseHTTPURL parses an absolute HTTP or HTTPS URL.
func parseHTTPURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, fmt.Errorf("%q is not of the form http://host or https://host", address)
	}
	return u, nil
}

// ownPaths are the prefixes of the server's own paths. If the public URL had such a path, the
// server could not tell whether a proxy had removed it.
var ownPaths = []string{"assets", "dev", "docs", "openapi.yaml", "v1"}

// plainPath matches paths that proxies and browsers do not rewrite.
var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?$`)

// checkPublicURL returns an error if a URL cannot be the one at which clients reach the API.
func checkPublicURL(address string) error {
	u, err := parseHTTPURL(address)
	switch {
	case err != nil:
		return err
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("must not have a query or a fragment")
	case !plainPath.MatchString(u.EscapedPath()):
		return fmt.Errorf("the path %q may contain only letters, digits and -._~ between its slashes", u.EscapedPath())
	case slices.Contains(ownPaths, strings.Split(u.Path+"/", "/")[1]):
		return fmt.Errorf("the path %q begins with a name that Parlor uses for its own paths", u.Path)
	}
	return nil
}

// checkOrigin returns an error if browsers never send an origin of this form. They send it in lower
// case, with nothing after the port, and without the default port of the scheme (RFC 6454).
func checkOrigin(origin string) error {
	u, err := parseHTTPURL(origin)
	if err != nil {
		return fmt.Errorf("%q is not an origin such as https://app.example.com", origin)
	}
	want := u.Scheme + "://" + strings.ToLower(u.Host)
	switch {
	case u.Scheme == "https":
		want = strings.TrimSuffix(want, ":443")
	case u.Scheme == "http":
		want = strings.TrimSuffix(want, ":80")
	}
	if origin != want {
		return fmt.Errorf("%q is not an origin; browsers send %q", origin, want)
	}
	return nil
}

// isLoopback reports whether only this machine can reach a host. An empty host means all
// interfaces, and any name other than localhost may be another machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
