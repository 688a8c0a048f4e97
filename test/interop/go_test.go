package interop_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	_ "github.com/launchdarkly/eventsource" // a program of docs/CLIENTS.md imports it: without this line, go mod tidy removes it
)

// The Go clients as docs/CLIENTS.md shows them, a hundred of each kind in one process.
func TestGoClientsSurviveRestarts(t *testing.T) {
	for name, c := range map[string]struct{ has, library string }{
		"client":       {"client.New(", "github.com/watchbox-go/watchbox/client"},
		"sse":          {"&sse.Client{", "github.com/watchbox-go/watchbox/sse"},
		"r3labs":       {"sse.NewClient(", "github.com/r3labs/sse/v2"},
		"tmaxmax":      {"sse.NewConnection(", "github.com/tmaxmax/go-sse"},
		"launchdarkly": {"eventsource.Subscribe", "github.com/launchdarkly/eventsource"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			bin := build(t, program(snippet(t, "go", c.has, s), c.library))
			survive(t, s, func(c *crowd) { process(t, c, bin, strconv.Itoa(clients)) })
		})
	}
}

// The other calls of the Go client compile.
func TestGoCallsCompile(t *testing.T) {
	s := serve(t)
	build(t, program("var c *client.Client\nvar order any\n"+snippet(t, "go", "c.PublishBatch(", s)+"fmt.Println(id, first, last, err)\n", "github.com/watchbox-go/watchbox/client"))
}

// program returns a program that runs a Go snippet many times at once, each time as a new client. It prints the
// client's number before each message.
func program(snippet, library string) string {
	// Declarations of methods cannot be in a function.
	declarations, body := "", snippet
	if ends := regexp.MustCompile(`(?m)^func .*\n`).FindAllStringIndex(snippet, -1); ends != nil {
		end := ends[len(ends)-1][1]
		declarations, body = snippet[:end], snippet[end:]
	}
	result := "nil"
	if strings.Contains(body, "err := c.Run(") || strings.Contains(body, "err := conn.Connect(") {
		result = "err"
	}
	imports := ""
	for _, path := range []string{"encoding/json", "net/http", "log", "time"} {
		if strings.Contains(snippet, path[strings.LastIndex(path, "/")+1:]+".") || path == "log" {
			imports += strconv.Quote(path) + "\n"
		}
	}
	if strings.HasSuffix(library, "/go-sse") || strings.HasSuffix(library, "/v2") {
		imports += "sse "
	}
	imports += strconv.Quote(library) + "\n"
	return strings.NewReplacer("IMPORTS", imports, "DECLARATIONS", declarations, "BODY", body, "RESULT", result).Replace(frame)
}

// frame is the program around a snippet. The snippet prints with a printer instead of the package fmt.
const frame = `package main

import (
	"context"
	formatter "fmt"
	"os"
	"strconv"
	"strings"
	IMPORTS
)

DECLARATIONS

type printer struct{ client int }

func (p printer) Println(v ...any) {
	text := strings.TrimSpace(formatter.Sprintln(v...))
	if !strings.HasPrefix(text, "{") {
		text = "{\"msg\":" + text + "}" // the snippet prints only the content of the message
	}
	_, _ = os.Stdout.WriteString(strconv.Itoa(p.client) + " " + text + "\n")
}

func run(ctx context.Context, fmt printer) error {
	BODY
	return RESULT
}

func main() {
	clients, _ := strconv.Atoi(os.Args[1])
	for i := range clients {
		go func() { log.Fatal(run(context.Background(), printer{i})) }()
	}
	select {}
}
`

// build compiles a program and returns its path.
func build(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	main, bin := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(main, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", bin, main).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, program)
	}
	return bin
}
