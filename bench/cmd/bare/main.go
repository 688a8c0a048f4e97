// Command bare is the floor for a POST over net/http: its handler reads the body and answers with
// as many bytes as the hub does. It stores and delivers nothing.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
)

// answer is as long as the hub's receipt.
var answer = []byte(`{"id":"4k7q9x4k7q9x-1041","group":"g0","time":"2026-01-02T03:04:05.678Z"}` + "\n")

func main() {
	addr := flag.String("addr", "127.0.0.1:9000", "listen address")
	flag.Parse()
	log.Fatal(http.ListenAndServe(*addr, http.HandlerFunc(post)))
}

func post(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(answer)
}
