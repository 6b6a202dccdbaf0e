package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"parlor/auth"
)

const goodSecret = auth.Secret("0123456789abcdef0123456789abcdef")

// parseServe returns the configuration for some flags.
func parseServe(t *testing.T, args ...string) *ServeCmd {
	t.Helper()
	var p program
	parser, err := newParser(&p, console{out: t.Output(), err: t.Output()}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"serve"}, args...)); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return &p.Serve
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := parseServe(t)
	if err := c.validate(); err != nil {
		t.Error(err)
	}
	if c.Listen != "127.0.0.1:8080" || c.MemberTimeout != 30*time.Second || c.MaxMembers != 500 || c.LogLevel != slog.LevelInfo {
		t.Errorf("the defaults are %+v", c)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	const (
		database = "--database-url=postgres://user:hunter2@host/parlor"
		audience = "--token-audience=parlor"
		issuer   = "--token-issuer=https://id.example.com"
	)
	secret, files := "--secret="+string(goodSecret), selfSigned(t)
	for _, test := range []struct {
		args []string
		want []string // the settings with errors, in order
	}{
		{[]string{database, secret}, nil},
		{[]string{database}, []string{"PARLOR_SECRET"}},
		{[]string{database, "--secret=short"}, []string{"PARLOR_SECRET"}},
		{[]string{"--secret=short"}, []string{"PARLOR_SECRET"}},
		{[]string{"--database-url=mysql://host/parlor", secret}, []string{"DATABASE_URL"}},
		{[]string{"--database-url=postgres://user:pa%ss@host/parlor", secret}, []string{"DATABASE_URL"}},
		{[]string{"--data="}, []string{"PARLOR_DATA"}},
		{[]string{"--media-keep-free=0", "--media-per-user=0", "--media-total=0"}, nil},
		{[]string{"--media-per-user=-1", "--media-total=1073741825"}, []string{"PARLOR_MEDIA_PER_USER", "PARLOR_MEDIA_TOTAL"}},
		{[]string{"--media-keep-free=-1"}, []string{"PARLOR_MEDIA_KEEP_FREE"}},
		{[]string{"--media-keep-free=1048577"}, []string{"PARLOR_MEDIA_KEEP_FREE"}},
		{[]string{"--secrets=2026=" + string(goodSecret) + ",2027=" + string(goodSecret) + "=="}, nil},
		{[]string{"--secrets=" + string(goodSecret)}, []string{"PARLOR_SECRETS"}},
		{[]string{"--secrets=a=short"}, []string{"PARLOR_SECRETS"}},
		{[]string{"--secrets=a=" + string(goodSecret) + ",a=" + string(goodSecret)}, []string{"PARLOR_SECRETS"}},
		{[]string{"--jwks-url=https://example.com/keys", audience, issuer}, nil},
		{[]string{"--jwks-url=http://localhost:1/keys", audience, issuer, "--jwks-admin"}, nil},
		{[]string{"--jwks-url=http://example.com/keys", audience, issuer}, []string{"PARLOR_JWKS_URL"}},
		{[]string{"--jwks-url=keys.json", audience, issuer}, []string{"PARLOR_JWKS_URL"}},
		{[]string{"--jwks-url=https://example.com/keys"}, []string{"PARLOR_TOKEN_AUDIENCE", "PARLOR_TOKEN_ISSUER"}},
		{[]string{audience, issuer}, nil},
		{[]string{"--jwks-admin"}, []string{"PARLOR_JWKS_ADMIN"}},
		{[]string{secret, "--database-url=postgres://h/d", "--nats-url=tls://u:p@a,nats://u:p@b:1", "--nats-nkey=config_test.go", "--nats-ca=config_test.go"}, nil},
		{[]string{"--nats-url=nats://a"}, nil},
		{[]string{secret, "--database-url=postgres://h/d", "--nats-url=http://u:" + string(goodSecret) + "@a"}, []string{"PARLOR_NATS_URL"}},
		{[]string{"--nats-credentials=config_test.go", "--nats-ca=missing"}, []string{"PARLOR_NATS_CREDENTIALS", "PARLOR_NATS_CA", "PARLOR_NATS_CA"}},
		{[]string{secret, "--database-url=postgres://h/d", "--nats-url=nats://a", "--nats-credentials=config_test.go", "--nats-nkey=config_test.go"}, []string{"PARLOR_NATS_NKEY"}},
		{[]string{secret, "--admin-secret=" + string(goodSecret) + "!"}, nil},
		{[]string{"--admin-secret=" + string(goodSecret)}, nil},
		{[]string{secret, "--admin-secret=" + string(goodSecret)}, []string{"PARLOR_ADMIN_SECRET"}},
		{[]string{"--secrets=a=" + string(goodSecret), "--admin-secret=" + string(goodSecret)}, []string{"PARLOR_ADMIN_SECRET"}},
		{[]string{"--admin-secret=short"}, []string{"PARLOR_ADMIN_SECRET"}},
		{[]string{"--token-lifetime=0s", "--admin-token-lifetime=0s"}, nil},
		{[]string{"--token-lifetime=59s", "--admin-token-lifetime=87601h"}, []string{"PARLOR_TOKEN_LIFETIME", "PARLOR_ADMIN_TOKEN_LIFETIME"}},
		{[]string{"--admin-tokens-void-before=2026-11-21T15:00:00Z"}, nil},
		{[]string{"--admin-tokens-void-before=9999-11-21T15:00:00Z"}, []string{"PARLOR_ADMIN_TOKENS_VOID_BEFORE"}},
		{[]string{"--trusted-proxies=127.0.0.1,10.0.0.0/8,fd00::/8,::1", "--proxy-protocol"}, nil},
		{[]string{"--trusted-proxies=localhost"}, []string{"PARLOR_TRUSTED_PROXIES"}},
		{[]string{"--trusted-proxies=10.0.0.0/33"}, []string{"PARLOR_TRUSTED_PROXIES"}},
		{[]string{"--trusted-proxies=0.0.0.0/0"}, []string{"PARLOR_TRUSTED_PROXIES"}},
		{[]string{"--proxy-protocol"}, []string{"PARLOR_PROXY_PROTOCOL"}},
		{
			[]string{"--max-connections=1", "--connections-per-address=-1", "--max-streams=-1", "--streams-per-address=-1", "--streams-per-user=10000001"},
			[]string{"PARLOR_MAX_CONNECTIONS", "PARLOR_CONNECTIONS_PER_ADDRESS", "PARLOR_MAX_STREAMS", "PARLOR_STREAMS_PER_ADDRESS", "PARLOR_STREAMS_PER_USER"},
		},
		{
			[]string{"--message-rate=10001", "--barrage-rate=-1", "--barrage-bytes=100", "--login-rate=-1", "--address-login-rate=-1", "--room-rate=-1", "--join-rate=-1", "--attribute-rate=100001", "--inbox-rate=-1"},
			[]string{
				"PARLOR_BARRAGE_BYTES", "PARLOR_MESSAGE_RATE", "PARLOR_BARRAGE_RATE", "PARLOR_LOGIN_RATE", "PARLOR_ADDRESS_LOGIN_RATE",
				"PARLOR_ROOM_RATE", "PARLOR_JOIN_RATE", "PARLOR_ATTRIBUTE_RATE", "PARLOR_INBOX_RATE",
			},
		},
		{[]string{"--listen=:0", "--ops-listen=:0"}, nil},
		{[]string{"--listen=[::1]:443"}, nil},
		{[]string{"--listen="}, []string{"PARLOR_LISTEN"}},
		{[]string{"--listen=8080"}, []string{"PARLOR_LISTEN"}},
		{[]string{"--listen=host:http"}, []string{"PARLOR_LISTEN"}},
		{[]string{"--listen=host:65536"}, []string{"PARLOR_LISTEN"}},
		{[]string{"--ops-listen="}, nil},
		{[]string{"--ops-listen=nowhere"}, []string{"PARLOR_OPS_LISTEN"}},
		{[]string{"--ops-listen=127.0.0.1:8080"}, []string{"PARLOR_OPS_LISTEN"}},
		{[]string{"--public-url=https://example.com/parlor"}, nil},
		{[]string{"--public-url=https://example.com/"}, nil},
		{[]string{"--public-url=https://example.com:8443/teams/parlor-2.0/"}, nil},
		{[]string{"--public-url=https://example.com/v1"}, []string{"PARLOR_PUBLIC_URL"}},
		{[]string{"--public-url=https://example.com/docs/parlor"}, []string{"PARLOR_PUBLIC_URL"}},
		{[]string{"--public-url=https://example.com/a//b"}, []string{"PARLOR_PUBLIC_URL"}},
		{[]string{"--public-url=https://example.com/a/../b"}, []string{"PARLOR_PUBLIC_URL"}},
		{[]string{"--public-url=https://example.com/a%2Fb"}, []string{"PARLOR_PUBLIC_URL"}},
		{[]string{"--public-url=https://example.com/a b"}, []string{"PARLOR_PUBLIC_URL"}},
		{[]string{"--public-url=https://example.com/parlor?"}, []string{"PARLOR_PUBLIC_URL"}},
		{[]string{"--public-url=example.com"}, []string{"PARLOR_PUBLIC_URL"}},
		{[]string{"--public-url=https://example.com/?a=b"}, []string{"PARLOR_PUBLIC_URL"}},
		{[]string{"--allowed-origins=https://a.example,http://localhost:5173"}, nil},
		{[]string{"--allowed-origins=*"}, []string{"PARLOR_ALLOWED_ORIGINS"}},
		{[]string{"--allowed-origins=null"}, []string{"PARLOR_ALLOWED_ORIGINS"}},
		{[]string{"--allowed-origins=https://a.example/"}, []string{"PARLOR_ALLOWED_ORIGINS"}},
		{[]string{"--allowed-origins=https://A.example"}, []string{"PARLOR_ALLOWED_ORIGINS"}},
		{[]string{"--allowed-origins=https://a.example:443,http://b.example:80"}, []string{"PARLOR_ALLOWED_ORIGINS", "PARLOR_ALLOWED_ORIGINS"}},
		{[]string{"--tls-cert=" + files.chain, "--tls-key=" + files.key}, nil},
		{[]string{"--tls-cert=" + files.key, "--tls-key=" + files.chain}, []string{"PARLOR_TLS_CERT"}},
		{[]string{"--tls-cert=/nowhere/a", "--tls-key=/nowhere/b"}, []string{"PARLOR_TLS_CERT", "PARLOR_TLS_KEY"}},
		{[]string{"--tls-cert=a"}, []string{"PARLOR_TLS_CERT"}},
		{[]string{"--tls-key=b"}, []string{"PARLOR_TLS_CERT"}},
		{[]string{"--max-members=50", "--max-members-ceiling=50", "--destroy-delay=1m", "--destroy-delay-ceiling=1m"}, nil},
		{[]string{"--max-members-ceiling=499", "--destroy-delay=1m", "--destroy-delay-ceiling=0s"}, []string{"PARLOR_MAX_MEMBERS_CEILING", "PARLOR_DESTROY_DELAY_CEILING"}},
		{[]string{"--max-members-ceiling=1000001", "--destroy-delay-ceiling=181m"}, []string{"PARLOR_MAX_MEMBERS_CEILING", "PARLOR_DESTROY_DELAY_CEILING"}},
		{[]string{"--message-retention=0s"}, nil},
		{[]string{"--message-retention=-1h"}, []string{"PARLOR_MESSAGE_RETENTION"}},
		{[]string{"--member-timeout=5s", "--max-members=1", "--rooms-per-user=1", "--feed-retention=1m", "--message-retention=1h", "--peer-retention=1m", "--heartbeat=5s", "--delivery-window=0s", "--drain=0s"}, nil},
		{[]string{"--member-timeout=300s", "--max-members=1000000", "--rooms-per-user=64", "--feed-retention=168h", "--message-retention=87600h", "--peer-retention=8760h", "--heartbeat=120s", "--peer-timeout=10m", "--delivery-window=1s", "--drain=10m"}, nil},
		{[]string{"--stream-compression=off"}, nil},
		{[]string{"--heartbeat=15s", "--peer-timeout=20s"}, nil},
		{[]string{"--heartbeat=16s", "--peer-timeout=20s"}, []string{"PARLOR_PEER_TIMEOUT"}},
		{[]string{"--peer-timeout=11m"}, []string{"PARLOR_PEER_TIMEOUT"}},
		{
			[]string{"--member-timeout=4999ms", "--max-members=0", "--rooms-per-user=0", "--feed-retention=59s", "--message-retention=59m", "--peer-retention=59s", "--heartbeat=4999ms", "--delivery-window=-1ns", "--drain=-1ns"},
			[]string{"PARLOR_MEMBER_TIMEOUT", "PARLOR_MAX_MEMBERS", "PARLOR_ROOMS_PER_USER", "PARLOR_FEED_RETENTION", "PARLOR_MESSAGE_RETENTION", "PARLOR_PEER_RETENTION", "PARLOR_HEARTBEAT", "PARLOR_DELIVERY_WINDOW", "PARLOR_DRAIN"},
		},
		{
			[]string{"--member-timeout=301s", "--max-members=1000001", "--rooms-per-user=65", "--feed-retention=169h", "--message-retention=87601h", "--peer-retention=8761h", "--heartbeat=121s", "--delivery-window=1001ms", "--drain=11m"},
			[]string{"PARLOR_MEMBER_TIMEOUT", "PARLOR_MAX_MEMBERS", "PARLOR_ROOMS_PER_USER", "PARLOR_FEED_RETENTION", "PARLOR_MESSAGE_RETENTION", "PARLOR_PEER_RETENTION", "PARLOR_HEARTBEAT", "PARLOR_PEER_TIMEOUT", "PARLOR_DELIVERY_WINDOW", "PARLOR_DRAIN"},
		},
	} {
		var got []string
		if err := parseServe(t, test.args...).validate(); err != nil {
			for line := range strings.Lines(err.Error()) {
				setting, _, _ := strings.Cut(line, ":")
				got = append(got, setting)
			}
			for _, hidden := range []string{"hunter2", "pa%ss", "short", string(goodSecret)} {
				if strings.Contains(err.Error(), hidden) {
					t.Errorf("%q: the error shows %q: %v", test.args, hidden, err)
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%q: errors in %q, want %q", test.args, got, test.want)
		}
	}
}

// TestDevelopmentModeRejectsProductionSettings covers a past failure: a server behind a proxy gave
// tokens for all users to the whole web, because it inferred development mode from its private
// database and loopback address.
func TestDevelopmentModeRejectsProductionSettings(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                                     "",
		"--listen 127.8.9.10:8080":             "",
		"--listen [::1]:8080":                  "",
		"--listen [::ffff:127.0.0.1]:80":       "",
		"--listen LocalHost:8080":              "",
		"--listen :8080":                       `requires a loopback address, but PARLOR_LISTEN is ":8080"`,
		"--listen 0.0.0.0:8080":                "requires a loopback address",
		"--listen [::]:8080":                   "requires a loopback address",
		"--listen 192.168.1.2:8080":            "requires a loopback address",
		"--listen localhost.test:8080":         "requires a loopback address",
		"--public-url https://a.test":          "combined with PARLOR_PUBLIC_URL",
		"--tls-cert a --tls-key b":             "combined with PARLOR_TLS_CERT",
		"--jwks-url https://a.test/keys":       "combined with PARLOR_JWKS_URL",
		"--secret " + string(goodSecret):       "combined with PARLOR_SECRET:",
		"--secrets a=" + string(goodSecret):    "combined with PARLOR_SECRETS:",
		"--admin-secret " + string(goodSecret): "combined with PARLOR_ADMIN_SECRET:",
		"--secret " + string(goodSecret) + " --database-url postgres://host/parlor": "combined with DATABASE_URL",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			development := parseServe(t, append([]string{"--dev"}, strings.Fields(args)...)...).validate()
			if got := fmt.Sprint(development); (development == nil) != (want == "") || !strings.Contains(got, want) {
				t.Errorf("with --dev: %v; want %q", development, want)
			}
			// A JWKS URL needs other settings too.
			if err := parseServe(t, strings.Fields(args)...).validate(); err != nil && strings.Contains(err.Error(), "PARLOR_DEV") {
				t.Errorf("without --dev: %v", err)
			}
		})
	}
}

func TestKeyedSecrets(t *testing.T) {
	t.Parallel()
	c := ServeCmd{Secrets: "a=" + goodSecret + ", b=" + goodSecret + "=="}
	got, err := c.keyedSecrets()
	if err != nil || len(got) != 2 || got["a"] != goodSecret || got["b"] != goodSecret+"==" {
		t.Errorf("got %d secrets, error %v", len(got), err)
	}
}

// TestLoggedDurations checks that durations in the JSON log have their unit in the key.
func TestLoggedDurations(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"json": `"msg":"request","tookMs":1500.25,"status":200}`,
		"text": `msg=request tookMs=1500.25 status=200`,
	} {
		var log bytes.Buffer
		config := ServeCmd{LogFormat: format}
		config.logger(&log).Info("request", "took", 1500*time.Millisecond+250*time.Microsecond, "status", 200)
		if !strings.HasSuffix(log.String(), want+"\n") {
			t.Errorf("%s: %s", format, log.String())
		}
	}
}

func TestSecretStaysHidden(t *testing.T) {
	t.Parallel()
	config := ServeCmd{Signing: Signing{Secret: goodSecret}, DatabaseURL: "postgres://user:" + goodSecret + "@host/parlor"}
	var log bytes.Buffer
	for _, format := range []string{"text", "json"} {
		config.LogFormat = format
		logger := config.logger(&log)
		logger.Info("configuration", "secret", config.Secret, "config", config, "pointer", &config)
		logger.With("secret", goodSecret).WithGroup("group").Info("again", "secret", goodSecret)
	}
	encoded, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		log.String(), string(encoded),
		fmt.Sprint(goodSecret, config, &config), fmt.Sprintf("%v %+v %#v %s %q %x", config, config, config, goodSecret, goodSecret, goodSecret),
		fmt.Errorf("secret %v: %#v", goodSecret, goodSecret).Error(),
	} {
		if strings.Contains(text, string(goodSecret)) || !strings.Contains(text, "[redacted]") {
			t.Errorf("not redacted: %s", text)
		}
	}
	if got := fmt.Sprintf("[%s]", auth.Secret("")); got != "[]" {
		t.Errorf("an empty secret is printed as %s", got)
	}
}
