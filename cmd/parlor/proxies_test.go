package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"parlor/room"
	"parlor/store/storetest"
)

// The proxies run with the configuration blocks of docs/operations.md, in which only addresses,
// files and timeouts are replaced. Timeouts are nine seconds instead of a minute, and the heartbeat
// is five seconds instead of ten. With `make test/proxies`, the timeouts stay a minute.
const (
	publicHost    = "chat.example.com"
	clientAddress = "127.0.0.77"
	docsTimeout   = "60s"
	testTimeout   = "9s"
	testHeartbeat = "5s"
	testIdle      = 11 * time.Second // longer than the timeout, so that only heartbeats keep a stream open
)

// idleVariable is the environment variable with the time for which streams are idle. If it is set,
// the timeouts are not replaced.
const idleVariable = "PARLOR_TEST_IDLE"

// TestProxies sends compressed streams, uploads and awkward paths through every proxy block of
// docs/operations.md.
func TestProxies(t *testing.T) {
	t.Parallel()
	idle, timeout := testIdle, testTimeout
	if text := os.Getenv(idleVariable); text != "" {
		var err error
		if idle, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", idleVariable, err)
		}
		timeout = docsTimeout
	}
	certificate := selfSigned(t)
	parlor := startProduction(t, "https://"+publicHost, "--heartbeat", testHeartbeat)
	blocks := proxyBlocks(t)
	for _, name := range slices.Sorted(maps.Keys(proxies)) {
		if len(blocks[name]) == 0 {
			t.Errorf("%s has no block for %s", operationsPage, name)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), idle+2*time.Minute)
	defer cancel()
	var sites []proxied
	var reading sync.WaitGroup // the streams are idle at the same time, and while files are sent
	for name, texts := range blocks {
		for i, text := range texts {
			address := startProxy(t, name, strings.ReplaceAll(text, docsTimeout, timeout), parlor, certificate)
			site := proxied{t: t, name: fmt.Sprint(name, i), parlor: parlor, address: address, trust: certificate.trust}
			for _, version := range []int{2, 1} {
				c := site.login(ctx, fmt.Sprint(site.name, "-", version), version)
				stream := site.open(ctx, c, c.streamURL)
				if stream.ProtoMajor != version || !stream.Uncompressed { // net/http asked for gzip
					t.Errorf("%s: the stream uses %s, compressed: %t", c.user, stream.Proto, stream.Uncompressed)
				}
				reading.Go(func() { site.checkIdleStream(ctx, idle, c, stream) })
			}
			sites = append(sites, site)
		}
	}
	for _, site := range sites {
		site.uploads(ctx, site.login(ctx, site.name, 2)) // over a connection of its own
		// Another session, because one without a stream is removed from rooms 30 s after its login, and
		// the uploads may have taken that long.
		site.paths(ctx, site.login(ctx, site.name, 2))
	}
	reading.Wait()
}

// TestProxyWithPath follows the links of a server whose public URL has a path, through nginx as
// documented.
func TestProxyWithPath(t *testing.T) {
	t.Parallel()
	certificate := selfSigned(t)
	parlor := startProduction(t, "https://"+publicHost+"/parlor")
	text := replace(t, proxyBlocks(t)["nginx"][0], "location / {", "location /parlor/ {")
	address := startProxy(t, "nginx", text, parlor, certificate)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	site := proxied{t: t, name: "nginx", parlor: parlor, path: "/parlor", address: address, trust: certificate.trust}
	c := site.login(ctx, "alice", 2)
	stream := site.open(ctx, c, c.streamURL)
	_ = stream.Body.Close()
	site.paths(ctx, c)

	at := c.tus(ctx, t, "POST", "/v1/media/uploads", nil, "Upload-Length", "5", "Upload-Metadata", "filename YS5iaW4=").Get("Location")
	here, err := url.Parse("https://" + publicHost)
	if err != nil {
		t.Fatal(err)
	}
	at = strings.TrimPrefix(here.JoinPath(at).String(), c.base)
	c.tus(ctx, t, "PATCH", at, strings.NewReader("words"), "Upload-Offset", "0")
	var known struct{ SignedURL string }
	c.mustCall(ctx, t, http.MethodGet, "/v1/media/"+filepath.Base(at), nil, &known)
	for _, link := range []string{known.SignedURL, c.base + "/", c.base + "/docs", c.base + "/openapi.yaml", c.base + "/docs/errors"} {
		reply, err := c.http.Get(link)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reply.Body)
		_ = reply.Body.Close()
		unbuilt := reply.StatusCode == http.StatusNotFound && (link == c.base+"/" || link == c.base+"/docs")
		if err != nil || reply.StatusCode != http.StatusOK && !unbuilt {
			t.Errorf("%s: %d, %v", link, reply.StatusCode, err)
		}
		for _, asset := range regexp.MustCompile(`(?:src|href)="(assets/[^"]+)"`).FindAllSubmatch(body, -1) {
			reply, err := c.http.Get(c.base + "/" + string(asset[1]))
			if err != nil {
				t.Fatal(err)
			}
			_ = reply.Body.Close()
			if reply.StatusCode != http.StatusOK {
				t.Errorf("%s of %s: %d", asset[1], link, reply.StatusCode)
			}
		}
	}
	if elsewhere, err := c.http.Get("https://" + publicHost + "/v1/rooms/x"); err != nil || elsewhere.Header.Get("X-Request-Id") != "" {
		t.Errorf("the proxy forwards a request outside the path: %v", err)
	} else {
		_ = elsewhere.Body.Close()
	}
}

// proxyBlocks returns the blocks of docs/operations.md that configure a proxy, by the language of
// their fence.
func proxyBlocks(t *testing.T) map[string][]string {
	t.Helper()
	blocks := map[string][]string{}
	for _, fence := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(readOperations(t), -1) {
		if _, ok := proxies[fence[1]]; ok {
			blocks[fence[1]] = append(blocks[fence[1]], fence[2])
		}
	}
	return blocks
}

func readOperations(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(operationsPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// proxies are the proxies in Debian, by the language of their blocks.
var proxies = map[string]struct {
	program string
	// configure writes a block into a folder and returns the arguments to run the program on an
	// address with it.
	configure func(t *testing.T, folder, block, listen string, c certificate) []string
}{
	"nginx":     {"nginx", configureNginx},
	"haproxy":   {"haproxy", configureHAProxy},
	"caddyfile": {"caddy", configureCaddy},
}

func configureNginx(t *testing.T, folder, block, listen string, c certificate) []string {
	block = replace(t, block, "listen 443 ssl http2", "listen "+listen+" ssl http2")
	block = replace(t, block, "/etc/ssl/certs/chat.example.com.pem", c.chain)
	block = replace(t, block, "/etc/ssl/private/chat.example.com.key", c.key)
	user := ""
	if os.Geteuid() == 0 { // other users cannot read the folder of the test
		user = "user root;\n"
	}
	around := user + "daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr;\nevents { worker_connections 2048; }\nhttp {\naccess_log off;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		around += kind + "_temp_path " + filepath.Join(folder, kind) + ";\n"
	}
	return []string{"-p", folder, "-e", "stderr", "-c", write(t, folder, "nginx.conf", around+block+"}\n")}
}

func configureHAProxy(t *testing.T, folder, block, listen string, c certificate) []string {
	block = replace(t, block, "bind :443", "bind "+listen)
	block = replace(t, block, "/etc/haproxy/chat.example.com.pem", c.both)
	return []string{"-db", "-f", write(t, folder, "haproxy.cfg", block)}
}

func configureCaddy(t *testing.T, folder, block, listen string, c certificate) []string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		t.Fatal(err)
	}
	// This machine has no certificate of Let's Encrypt.
	block = replace(t, block, publicHost+" {", publicHost+":"+port+" {\n\tbind 127.0.0.1\n\ttls "+c.chain+" "+c.key)
	around := "{\n\tadmin off\n\tauto_https off\n\tstorage file_system " + folder + "\n}\n"
	return []string{"run", "--adapter", "caddyfile", "--config", write(t, folder, "Caddyfile", around+block)}
}

// startProxy runs a proxy with a block until the test ends, and returns its address.
func startProxy(t *testing.T, name, block string, parlor *process, c certificate) string {
	t.Helper()
	block = replace(t, block, "127.0.0.1:8080", strings.TrimPrefix(parlor.url, "http://"))
	if strings.Contains(block, "check port 8081") {
		block = replace(t, block, "check port 8081", "check port "+portOf(t, parlor.ops))
	}
	proxy := proxies[name]
	return runProxy(t, proxy.program, func(folder, listen string) []string {
		return proxy.configure(t, folder, block, listen, c)
	})
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// runProxy runs a proxy until the test ends, and returns the address on which it listens. configure
// writes its configuration into a folder and returns its arguments.
func runProxy(t *testing.T, program string, configure func(folder, listen string) []string) string {
	t.Helper()
	path, err := findProgram(program)
	if err != nil {
		t.Fatalf("%s is not installed, which is needed to test its block in %s: run scripts/setup.sh %[1]s", program, operationsPage)
	}
	folder, listen := t.TempDir(), freeAddress(t)
	cmd := exec.Command(path, configure(folder, listen)...)
	cmd.Env = append(os.Environ(), "HOME="+folder, "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("output of %s:\n%s", program, log.String())
		}
	})
	for ctx := t.Context(); ; wait(ctx, 20*time.Millisecond) {
		select {
		case <-ended:
			t.Fatalf("%s does not start with its block", program)
		default:
		}
		conn, err := net.Dial("tcp", listen)
		if err == nil {
			_ = conn.Close()
			return listen
		}
	}
}

// findProgram returns the path of a program. It also searches the folders of servers, which are
// only in the PATH of root.
func findProgram(name string) (string, error) {
	for _, path := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name, "/opt/homebrew/bin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", exec.ErrNotFound
}

// replace replaces text that a block must contain.
func replace(t *testing.T, block, old, instead string) string {
	t.Helper()
	if !strings.Contains(block, old) {
		t.Fatalf("the block in %s has no %q:\n%s", operationsPage, old, block)
	}
	return strings.ReplaceAll(block, old, instead)
}

func write(t testing.TB, folder, name, text string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate is a certificate that the test's clients trust, in the files that proxies need.
type certificate struct {
	chain, key, both string
	trust            *x509.CertPool
}

func selfSigned(t testing.TB) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: publicHost}, DNSNames: []string{publicHost},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	c := certificate{trust: x509.NewCertPool()}
	c.trust.AppendCertsFromPEM(chain)
	folder := t.TempDir()
	c.chain, c.key = write(t, folder, "chain.pem", string(chain)), write(t, folder, "key.pem", string(keyPEM))
	c.both = write(t, folder, "both.pem", string(chain)+string(keyPEM))
	return c
}

// startProduction starts a server with a secret and a public URL, as behind a proxy.
func startProduction(t *testing.T, publicURL string, args ...string) *process {
	t.Helper()
	return startParlorWith(t, storetest.Folder(t), []string{"PARLOR_SECRET=" + string(goodSecret), "PARLOR_PUBLIC_URL=" + publicURL, "PARLOR_TRUSTED_PROXIES=127.0.0.1", "PARLOR_LOG_LEVEL=debug"}, args...)
}

// proxied is a server behind a proxy.
type proxied struct {
	t       *testing.T
	name    string
	parlor  *process
	path    string // path of the public URL
	address string // address of the proxy
	trust   *x509.CertPool
}

// login starts a session through the proxy, over HTTP/2 or HTTP/1.1, and enters a room with an
// awkward name.
func (p proxied) login(ctx context.Context, user string, version int) *client {
	p.t.Helper()
	transport := transportTo(p.address, p.trust)
	transport.Protocols = &http.Protocols{}
	transport.Protocols.SetHTTP1(version == 1)
	transport.Protocols.SetHTTP2(version == 2)
	p.t.Cleanup(transport.CloseIdleConnections)
	c := &client{http: &http.Client{Transport: transport}, base: "https://" + publicHost + p.path, user: user}
	tokens := parlor(ctx, p.t, []string{"PARLOR_SECRET=" + string(goodSecret)}, "token", "--user", user)
	var session struct{ SessionKey, StreamURL string }
	c.mustCall(ctx, p.t, http.MethodPost, "/v1/sessions", map[string]string{"token": strings.TrimSpace(tokens.out)}, &session)
	c.key, c.streamURL = session.SessionKey, session.StreamURL
	c.enter(ctx, p.t, url.PathEscape(p.room()))
	return c
}

// transportTo returns a transport of which all connections lead to a proxy.
func transportTo(address string, trust *x509.CertPool) *http.Transport {
	return &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: trust},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var from net.Dialer
			if runtime.GOOS == "linux" { // all of 127/8 is this machine's
				from.LocalAddr = &net.TCPAddr{IP: net.ParseIP(clientAddress)}
			}
			return from.DialContext(ctx, network, address)
		},
	}
}

// room is a room ID with characters that proxies tend to decode.
func (p proxied) room() string {
	return p.name + "/#%2F?;%25//" + `x\y !"$&'()*+,-.:<=>@[]^_{|}~` + "`/"
}

// open opens a client's stream.
func (p proxied) open(ctx context.Context, c *client, address string) *http.Response {
	p.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	reply, err := c.http.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	if reply.StatusCode != http.StatusOK {
		p.t.Fatalf("the stream of %s: %s", c.user, reply.Status)
	}
	return reply
}

// checkIdleStream checks that a stream that was idle for a while still delivers a message
// immediately.
func (p proxied) checkIdleStream(ctx context.Context, idle time.Duration, c *client, stream *http.Response) {
	defer stream.Body.Close()
	began, beats, sent := time.Now(), 0, false
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() {
		switch line := lines.Text(); {
		case line == ":":
			beats++
		case sent && strings.Contains(line, "from "+c.user):
			return
		}
		if sent || beats < 2 || time.Since(began) < idle {
			continue
		}
		sent = true
		if err := c.sendText(ctx, url.PathEscape(p.room()), "from "+c.user); err != nil {
			p.t.Errorf("%s: %v", c.user, err)
			return
		}
	}
	p.t.Errorf("the stream of %s ended after %s with %d heartbeats: %v", c.user, time.Since(began), beats, lines.Err())
}

// uploads sends 100 MB in one request, and again in two, of which the first is interrupted.
func (p proxied) uploads(ctx context.Context, c *client) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/v1/media?fileName=blank", &blank{left: room.MaxMediaBytes})
	if err != nil {
		p.t.Fatal(err)
	}
	r.ContentLength = room.MaxMediaBytes
	r.Header.Set("Authorization", "Bearer "+c.key)
	reply, err := c.http.Do(r)
	if err != nil {
		p.t.Fatalf("%s: an upload: %v", p.name, err)
	}
	body, err := io.ReadAll(reply.Body)
	_ = reply.Body.Close()
	if err != nil {
		p.t.Fatalf("%s: an upload: %v", p.name, err)
	}
	if reply.StatusCode != http.StatusCreated || !bytes.Contains(body, []byte(`"size":`+strconv.Itoa(room.MaxMediaBytes))) {
		p.t.Fatalf("%s: upload: status %s: %s", p.name, reply.Status, body)
	}

	at := c.tus(ctx, p.t, "POST", "/v1/media/uploads", nil, "Upload-Length", strconv.Itoa(room.MaxMediaBytes), "Upload-Metadata", "filename YS5iaW4=").Get("Location")
	half, err := c.tusRequest(ctx, "PATCH", at, &blank{left: room.MaxMediaBytes, breaksAt: room.MaxMediaBytes / 4}, "Upload-Offset", "0")
	if err != nil {
		p.t.Fatal(err)
	}
	half.ContentLength = room.MaxMediaBytes
	if reply, err := c.http.Do(half); err == nil {
		_ = reply.Body.Close()
	}
	stored, err := strconv.Atoi(c.tus(ctx, p.t, "HEAD", at, nil).Get("Upload-Offset"))
	if err != nil || stored == 0 {
		p.t.Errorf("%s: %d bytes of an interrupted upload are stored: the proxy buffers uploads", p.name, stored)
	}
	rest := c.tus(ctx, p.t, "PATCH", at, &blank{left: room.MaxMediaBytes - stored}, "Upload-Offset", strconv.Itoa(stored))
	if got := rest.Get("Upload-Offset"); got != strconv.Itoa(room.MaxMediaBytes) {
		p.t.Errorf("%s: a resumed upload is stored up to %s", p.name, got)
	}
}

// blank is a file of zeros, which may fail to be read at some offset.
type blank struct{ left, breaksAt int }

func (z *blank) Read(p []byte) (int, error) {
	if z.left <= z.breaksAt {
		if z.breaksAt > 0 {
			return 0, errors.New("interrupted")
		}
		return 0, io.EOF
	}
	n := min(len(p), z.left-z.breaksAt)
	clear(p[:n])
	z.left -= n
	return n, nil
}

// paths makes calls whose paths a proxy must not change.
func (p proxied) paths(ctx context.Context, c *client) {
	p.t.Helper()
	var known struct{ Room struct{ RoomID string } }
	c.mustCall(ctx, p.t, http.MethodGet, "/v1/rooms/"+url.PathEscape(p.room()), nil, &known)
	if known.Room.RoomID != p.room() {
		p.t.Errorf("the room %q is %q", p.room(), known.Room.RoomID)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/rooms/a%2F..%2Fb", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	r.Header.Set("X-Request-Id", "of-"+c.user)
	reply, err := c.http.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer reply.Body.Close()
	var problem struct {
		RequestID string
		Errors    []struct{ Pointer string }
	}
	err = json.NewDecoder(reply.Body).Decode(&problem)
	if err != nil || len(problem.Errors) != 1 || problem.Errors[0].Pointer != "path/roomID" || problem.RequestID != "of-"+c.user {
		p.t.Errorf("the invalid room ID a%%2F..%%2Fb: status %s: %+v, %v", reply.Status, problem, err)
	}
	if logged := "client=" + clientAddress + " requestID=of-" + c.user + "\n"; runtime.GOOS == "linux" && !strings.Contains(p.parlor.logged(), logged) {
		p.t.Errorf("the log does not contain %q", logged)
	}
}
