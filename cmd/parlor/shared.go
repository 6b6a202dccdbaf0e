package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strconv"

	"parlor/auth"
	"parlor/cluster"
	"parlor/media"
	"parlor/room"
)

// sharedSettings returns the settings that all servers of one database must share: those that decide
// which tokens are valid, where files are, and how servers talk to each other. Tokens with a kid of
// PARLOR_SECRETS that only one server has are no conflict, so that secrets can be changed in a
// rolling restart. Neither is PARLOR_ADMIN_TOKENS_VOID_BEFORE, because it is set in a hurry.
func (c *ServeCmd) sharedSettings(tokens *auth.Tokens, bucket *media.Bucket, log *slog.Logger) room.NodeSettings {
	settings := make(room.NodeSettings)
	add := func(name string, value []byte) { settings[name] = digest(name, value) }
	add("PARLOR_SECRET", tokens.Secret)
	add("PARLOR_ADMIN_SECRET", tokens.AdminSecret)
	for kid, secret := range tokens.Secrets {
		add("PARLOR_SECRETS (kid "+kid+")", secret)
	}
	add("PARLOR_JWKS_URL", []byte(c.JWKSURL))
	add("PARLOR_JWKS_ADMIN", strconv.AppendBool(nil, c.JWKSAdmin))
	add("PARLOR_TOKEN_AUDIENCE", []byte(c.TokenAudience))
	add("PARLOR_TOKEN_ISSUER", []byte(c.TokenIssuer))
	add("PARLOR_FEED_PEERS", strconv.AppendBool(nil, c.FeedPeers))
	add("PARLOR_NATS_URL", []byte(cluster.NATSAddresses(c.servers())))
	add("the wire version of this release", strconv.AppendInt(nil, cluster.WireVersion, 10))
	// A folder that cannot be written to must not keep a server from serving messages.
	if files, err := bucket.Identity(); err != nil {
		log.Warn("folder of files not compared with that of other servers", "error", err)
	} else {
		add("the place of the files (PARLOR_MEDIA_URL)", []byte(files))
	}
	return settings
}

// digest returns a text that shows whether two values of a setting are the same, and from which a
// secret can be guessed no faster than from a token that it has signed.
func digest(name string, value []byte) string {
	mac := hmac.New(sha256.New, value)
	mac.Write([]byte("parlor setting " + name))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
