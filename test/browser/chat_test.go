package browser_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/watchbox-go/watchbox/internal/freeport"
)

// TestTwoPeopleChat opens the room of examples/chat in two windows.
func TestTwoPeopleChat(t *testing.T) {
	t.Parallel()
	addr := startChat(t)
	ann, bob := open(t, "http://"+addr), open(t, "http://"+addr)
	sees := func(p *page, text string) {
		t.Helper()
		p.until(`document.getElementById("log")?.innerText.includes(%q)`, text)
	}
	say := func(p *page, text string) {
		t.Helper()
		p.do(`document.querySelector("input").value = %q; document.querySelector("form").requestSubmit()`, text)
	}
	sees(ann, "host: somebody came")
	sees(bob, "host: somebody came")
	say(ann, "hello")
	sees(ann, "you: hello")
	sees(bob, ": hello")
	say(bob, "who is there?")
	sees(bob, "good question (only you see this)")
	sees(ann, ": who is there?")
	say(ann, "damn")
	ann.until(`document.getElementById("state").textContent.includes("mind your words")`)
	var log string
	ann.run(chromedp.Text("#log", &log))
	if len(log) == 0 || strings.Contains(log, "good question") || strings.Contains(log, "damn") {
		t.Errorf("Ann sees %q", log)
	}
	bob.cancel()
	sees(ann, "host: has left")
	ann.do(`document.getElementById("log").remove()`)
	ann.run(chromedp.Reload())
	sees(ann, "you: hello") // as the same session
	for _, line := range ann.consoleLines() {
		if !strings.Contains(line, "403") { // the browser reports the refused message
			t.Errorf("the console has %q", line)
		}
	}
}

// startChat runs the chat and returns its address.
func startChat(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "chat")
	build := exec.Command("go", "build", "-o", program, "./examples/chat")
	build.Dir = filepath.Join("..", "..") // the module of the program
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	addr := freeport.Addr(t)
	chat := exec.Command(program, addr)
	if err := chat.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- chat.Wait() }()
	t.Cleanup(func() {
		_ = chat.Process.Signal(os.Interrupt) // it may have ended
		if err := <-ended; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	for {
		resp, err := http.Get("http://" + addr)
		if err == nil {
			_ = resp.Body.Close()
			return addr
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatal("the chat has ended")
		default:
		}
	}
}
