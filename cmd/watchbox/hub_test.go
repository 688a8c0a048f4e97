package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTokenIsNotSentToAnotherServer(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s %s has the token", r.Method, r.URL)
		}
		http.NotFound(w, r)
	}))
	defer other.Close()
	hub := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer hub.Close()
	for _, command := range []string{"pub foo hi", "sub foo --count 1", "get foo", "top --count 1"} {
		if err := run(strings.Fields(command + " --token wb_secret --url " + hub.URL)); err == nil {
			t.Errorf("%s succeeds", command)
		}
	}
}
