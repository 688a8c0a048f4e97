//go:build unix

package api_test

import (
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/access"
)

// BenchmarkPOSTWithToken measures what a token costs:
//
//	go test ./api -run xxx -bench WithToken -cpu 1 -count 10
//
// cpu-ns/op is the CPU time of the whole process. "new JWT" verifies the signature each time (HS256), "known JWT" is the same token again.
func BenchmarkPOSTWithToken(b *testing.B) {
	const many = 20_000 // more JWTs than are cached
	i, file := newIssuer(b), filepath.Join(b.TempDir(), "tokens.json")
	t := &access.APIToken{Name: "bench", Publish: []string{"bench"}}
	apiToken, err := access.NewToken(t, time.Now())
	if err == nil {
		err = access.AddToken(file, t)
	}
	if err != nil {
		b.Fatal(err)
	}
	var fresh []string
	open, closed := newHub(b), newHub(b, i.option(), watchbox.WithTokenFile(file))
	defer func() { _, _ = open.Close(), closed.Close() }()
	for _, c := range []struct {
		name   string
		hub    http.Handler
		tokens func() []string
	}{
		{"no login", open, func() []string { return []string{""} }},
		{"API token", closed, func() []string { return []string{"Bearer " + apiToken} }},
		{"known JWT", closed, func() []string { return []string{i.token("anna", publish("bench"))[1]} }},
		{"new JWT", closed, func() []string {
			for len(fresh) < many {
				fresh = append(fresh, i.token("anna", publish("bench"))[1])
			}
			return fresh
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			tokens := c.tokens()
			b.ReportAllocs()
			r, send := repeatedPOST()
			before := cpuTime(b)
			for n := 0; b.Loop(); n++ {
				if token := tokens[n%len(tokens)]; token != "" {
					r.Header["Authorization"] = []string{token}
				}
				send(c.hub)
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime returns the CPU time that the process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
