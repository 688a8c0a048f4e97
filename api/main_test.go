package api_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/watchbox-go/watchbox/internal/leak"
)

// TestMain also fails if the tests have not seen each documented status and code, or if a goroutine is left.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if code == 0 && wholePackage() && wire == "" {
		for _, missing := range theContract.unseen() {
			fmt.Fprintln(os.Stderr, "documented in openapi.yaml and seen by no test:", missing)
			code = 1
		}
	}
	if err := leak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// wholePackage reports whether all tests have run.
func wholePackage() bool {
	for _, name := range []string{"test.run", "test.skip", "test.fuzz", "test.list"} {
		if flag.Lookup(name).Value.String() != "" {
			return false
		}
	}
	return true
}
