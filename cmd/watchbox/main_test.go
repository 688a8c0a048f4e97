package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/watchbox-go/watchbox/internal/freeport"
	"github.com/watchbox-go/watchbox/internal/listen/certtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"watchbox": main})
}

// TestScripts runs the scripts in testdata with the binary, as a user would in a terminal.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", noNap)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cert": cert, "front": front, "jwt": token, "serve": start, "end": end, "log": logged, "notify": notified, "waitfor": waitFor,
		},
	})
}

// hub is a hub that a script has started.
type hub struct {
	cmd *exec.Cmd
	log bytes.Buffer // valid when eof is closed
	eof chan struct{}
}

// noNap keeps the race detector from sleeping for a second at the end of each process.
const noNap = "atexit_sleep_ms=0"

// patience is how long a script waits for anything.
const patience = 2 * time.Minute

// start is the command serve: it runs watchbox serve with the arguments, on a free port unless --listen is
// given, and sets WATCHBOX_URL and ADDR when the hub accepts connections.
func start(ts *testscript.TestScript, _ bool, args []string) {
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		addr, err := freeport.Find()
		ts.Check(err)
		args = append(args, "--listen", addr)
	}
	exe, err := exec.LookPath("watchbox")
	ts.Check(err)
	h := &hub{cmd: exec.Command(exe, append([]string{"serve"}, args...)...), eof: make(chan struct{})}
	h.cmd.Dir = ts.MkAbs(".")
	h.cmd.Env = append(os.Environ(), "GORACE="+noNap)
	for _, name := range []string{"WATCHBOX_MAX_AGE", "NOTIFY_SOCKET"} {
		if value := ts.Getenv(name); value != "" {
			h.cmd.Env = append(h.cmd.Env, name+"="+value)
		}
	}
	stderr, err := h.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(h.cmd.Start())
	first := make(chan string, 1)
	go func() {
		defer close(h.eof)
		r := bufio.NewReader(stderr)
		line, _ := r.ReadString('\n')
		first <- line
		_, _ = io.Copy(&h.log, r)
	}()
	hubs.Store(ts.Getenv("WORK"), h)
	ts.Defer(func() { _ = h.cmd.Process.Kill(); <-h.eof; _ = h.cmd.Wait() })
	select {
	case line := <-first:
		url, ok := strings.CutPrefix(strings.TrimSpace(line), "watchbox listens on ")
		if !ok {
			ts.Fatalf("the first line of the log is %q", line)
		}
		ts.Setenv("WATCHBOX_URL", url)
		_, addr, _ := strings.Cut(url, "://")
		ts.Setenv("ADDR", addr)
	case <-time.After(patience):
		ts.Fatalf("watchbox serve does not listen")
	}
}

// cert is the command that makes a certificate: it writes two files. More arguments are more names.
func cert(ts *testscript.TestScript, _ bool, args []string) {
	p, err := certtest.Make(time.Now().Add(time.Hour), args[2:]...)
	ts.Check(err)
	ts.Check(p.Write(ts.MkAbs(args[0]), ts.MkAbs(args[1])))
}

// token is the command jwt: it replaces a file by a JWT for a subject, which allows everything and expires after
// a time. The key is in the file secret.
func token(ts *testscript.TestScript, _ bool, args []string) {
	life, err := time.ParseDuration(args[1])
	ts.Check(err)
	now := time.Now()
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": args[0], "iat": now.Unix(), "exp": now.Add(life).Unix(),
		"watchbox": map[string]any{"subscribe": []string{"#"}, "publish": []string{"#"}, "admin": true},
	}).SignedString([]byte(strings.TrimSpace(ts.ReadFile("secret"))))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("next"), []byte(signed), 0o600))
	ts.Check(os.Rename(ts.MkAbs("next"), ts.MkAbs(args[2])))
}

// proxy is a proxy between a script's commands and its hub. While it has a page, it answers with that.
type proxy struct {
	*httptest.Server
	page    atomic.Int32 // the status of its page; 0: none
	json    atomic.Bool  // the page is JSON
	polls   atomic.Bool  // only polls pass
	told    atomic.Int32 // number of answers that the session was ended
	asked   atomic.Int32 // number of answers with the page
	waiting atomic.Int32 // number of requests whose clients have not received the response header
}

// flushNotifier calls flushed when the response header has been sent to the client.
type flushNotifier struct {
	http.ResponseWriter
	flushed func()
}

func (w flushNotifier) FlushError() error {
	defer w.flushed()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// front is the command that starts a proxy in front of the hub and sets FRONT_URL. With a status, the proxy cuts all
// connections after their clients have the header of the hub's response, and then answers each request with the status
// and a page. With "json" it does the same with 200 and JSON. With "hub" it forwards requests to the hub again. With
// "asked" the script waits until two requests were answered with the page. With "polls" it holds streams back, and loses the
// first two answers that the session was ended.
func front(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		target, err := url.Parse(ts.Getenv("WATCHBOX_URL"))
		ts.Check(err)
		p, behind := &proxy{}, httputil.NewSingleHostReverseProxy(target)
		behind.ErrorLog = log.New(io.Discard, "", 0)
		behind.ModifyResponse = func(r *http.Response) error {
			if p.polls.Load() && r.StatusCode == http.StatusGone && p.told.Add(1) <= 2 {
				_ = r.Body.Close() // it is not read
				panic(http.ErrAbortHandler)
			}
			return nil
		}
		p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status := p.page.Load(); status != 0 {
				media, body := "text/html", "<html>be right back"
				if p.json.Load() {
					media, body = "application/json", `{"ok":true}`
				}
				w.Header().Set("Content-Type", media)
				w.WriteHeader(int(status))
				_, _ = io.WriteString(w, body)
				p.asked.Add(1)
				return
			}
			if p.polls.Load() && r.URL.Path == "/v1/events" {
				_, _ = io.Copy(io.Discard, r.Body) // then the request's context ends with the connection
				<-r.Context().Done()
				return
			}
			p.waiting.Add(1)
			flushed := sync.OnceFunc(func() { p.waiting.Add(-1) })
			defer flushed()
			behind.ServeHTTP(flushNotifier{w, flushed}, r)
		}))
		ts.Defer(func() { p.CloseClientConnections(); p.Close() })
		proxies.Store(ts.Getenv("WORK"), p)
		ts.Setenv("FRONT_URL", p.URL)
		return
	}
	known, ok := proxies.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("the script has not run front")
	}
	p := known.(*proxy)
	switch args[0] {
	case "hub":
		p.page.Store(0)
	case "polls":
		p.polls.Store(true)
	case "asked":
		waitUntil(ts, "two requests for the page", func() bool { return p.asked.Load() >= 2 })
	default:
		status, err := http.StatusOK, error(nil)
		if args[0] != "json" {
			status, err = strconv.Atoi(args[0])
		}
		ts.Check(err)
		p.json.Store(args[0] == "json")
		waitUntil(ts, "the hub's responses", func() bool { return p.waiting.Load() == 0 })
		p.asked.Store(0)
		p.page.Store(int32(status))
		p.CloseClientConnections()
	}
}

// waitUntil waits until ok returns true.
func waitUntil(ts *testscript.TestScript, what string, ok func() bool) {
	for deadline := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			ts.Fatalf("timeout while the proxy waits for %s", what)
		}
	}
}

// proxies has the proxy of each script by its folder.
var proxies sync.Map

// hubs has the hub of each script by its folder. Scripts run concurrently.
var hubs sync.Map

func hubOf(ts *testscript.TestScript) *hub {
	h, ok := hubs.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("the script has not run serve")
	}
	return h.(*hub)
}

// end is the command that stops the hub as a service manager would, and requires exit status 0. With HUP
// or DRAIN it sends SIGHUP or SIGTERM and does not wait; with KILL it kills the hub.
func end(ts *testscript.TestScript, _ bool, args []string) {
	h := hubOf(ts)
	how := strings.Join(args, " ")
	sig, ok := map[string]syscall.Signal{
		"": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "DRAIN": syscall.SIGTERM, "KILL": syscall.SIGKILL,
	}[how]
	if !ok {
		ts.Fatalf("unknown argument of end: %s", how)
	}
	ts.Check(h.cmd.Process.Signal(sig))
	switch how {
	case "HUP", "DRAIN":
		return
	case "KILL":
		<-h.eof
		_ = h.cmd.Wait() // the error is the signal
		return
	}
	late := time.AfterFunc(patience, func() { _ = h.cmd.Process.Kill() })
	defer late.Stop()
	<-h.eof
	ts.Check(h.cmd.Wait())
}

// logged is the command log: it prints the log of the hub after end.
func logged(ts *testscript.TestScript, _ bool, _ []string) {
	_, _ = fmt.Fprint(ts.Stdout(), hubOf(ts).log.String())
}

// managers has the socket of each script's service manager by its folder.
var managers sync.Map

// notified is the command notify. Without an argument it opens the socket of a service manager and sets
// NOTIFY_SOCKET. With one it waits for the next message, which must match the pattern.
func notified(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		path := ts.MkAbs("notify.sock")
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		ts.Check(err)
		ts.Defer(func() { _ = conn.Close() })
		managers.Store(ts.Getenv("WORK"), conn)
		ts.Setenv("NOTIFY_SOCKET", path)
		return
	}
	known, ok := managers.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("the script has not opened the socket")
	}
	conn := known.(*net.UnixConn)
	ts.Check(conn.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	ts.Check(err)
	if !regexp.MustCompile(args[0]).Match(b[:n]) {
		ts.Fatalf("the service manager was told %q, want %q", b[:n], args[0])
	}
}

// waitFor is the command that runs a command, mostly curl, until its output contains a text.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	var out []byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Dir = ts.MkAbs(".")
		if out, _ = cmd.CombinedOutput(); strings.Contains(string(out), args[0]) {
			return
		}
	}
	ts.Fatalf("%v does not print %q; its output is %q", args[1:], args[0], out)
}
