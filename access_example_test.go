package watchbox_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox"
)

// app is a program with a login of its own: a cookie names one of its logins.
type app struct {
	hub *watchbox.Hub

	mu     sync.Mutex // guards what follows
	logins map[string]login
}

type login struct {
	user string
	ends time.Time
}

const loginCookie = "app_login"

// find returns the login of a request.
func (a *app) find(r *http.Request) (login, bool) {
	c, err := r.Cookie(loginCookie)
	if err != nil {
		return login{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.logins[c.Value]
	return l, ok && time.Now().Before(l.ends)
}

// grant tells the hub what the user of a request may do.
func (a *app) grant(r *http.Request) (*watchbox.Grant, error) {
	l, ok := a.find(r)
	if !ok {
		return nil, watchbox.ErrUnauthorized
	}
	return &watchbox.Grant{
		Subject:   l.user,
		Subscribe: []string{"users/{sub}/#", "news/#"},
		Publish:   []string{"users/{sub}/notes"},
		Expires:   l.ends, // open streams end with the login
	}, nil
}

func (a *app) logIn(w http.ResponseWriter, r *http.Request) {
	id := rand.Text() // after the password was checked
	a.mu.Lock()
	a.logins[id] = login{r.FormValue("user"), time.Now().Add(8 * time.Hour)}
	a.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: loginCookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// logOut ends the login first, so that its streams cannot return, and then all open streams of the user. Those of
// the user's other logins reconnect and resume.
func (a *app) logOut(w http.ResponseWriter, r *http.Request) {
	l, ok := a.find(r)
	if !ok {
		return
	}
	c, _ := r.Cookie(loginCookie)
	a.mu.Lock()
	delete(a.logins, c.Value)
	a.mu.Unlock()
	if err := a.hub.Revoke(r.Context(), watchbox.Revocation{Subject: l.user}); err != nil {
		http.Error(w, "the streams could not be ended", http.StatusInternalServerError)
	}
}

// The login of a program decides what its users may do. When a user logs out, the open streams end.
func ExampleWithAuthorize() {
	a := &app{logins: map[string]login{}}
	hub, err := watchbox.New(watchbox.WithAuthorize(a.grant))
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	a.hub = hub

	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", a.logIn)
	mux.HandleFunc("POST /logout", a.logOut)
	mux.Handle("/hub/", http.StripPrefix("/hub", hub))
	srv := httptest.NewServer(mux)
	defer srv.Close()

	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	defer browser.CloseIdleConnections()
	call := func(method, path string) *http.Response {
		r, _ := http.NewRequest(method, srv.URL+path, nil)
		resp, err := browser.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		return resp
	}
	status := func(method, path string) string {
		resp := call(method, path)
		_ = resp.Body.Close()
		return resp.Status
	}

	fmt.Println("before the login:", status("GET", "/hub/v1/groups/users/anna/inbox"))
	fmt.Println("the login:", status("POST", "/login?user=anna"))
	fmt.Println("the inbox of another user:", status("GET", "/hub/v1/groups/users/otto/inbox"))

	stream := call("GET", "/hub/v1/groups/users/anna/inbox?format=raw")
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	next := func(field string) string {
		for lines.Scan() {
			if value, ok := strings.CutPrefix(lines.Text(), field+": "); ok {
				return value
			}
		}
		return ""
	}
	next("data") // the session
	if _, err := hub.Publish(context.Background(), "users/anna/inbox", "hello"); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the own inbox:", next("data"))

	fmt.Println("the logout:", status("POST", "/logout"))
	fmt.Println("the stream:", next("event"), next("data"))
	fmt.Println("the next stream:", status("GET", "/hub/v1/groups/users/anna/inbox"))
	// Output:
	// before the login: 401 Unauthorized
	// the login: 200 OK
	// the inbox of another user: 403 Forbidden
	// the own inbox: hello
	// the logout: 200 OK
	// the stream: bye {"reason":"token-revoked"}
	// the next stream: 401 Unauthorized
}
