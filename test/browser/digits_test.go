package browser_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/watchbox-go/watchbox"
)

// exact is JSON whose text a browser changes: it rounds the integer, and writes 1 and é.
const exact = `{"n":9007199254740993,"10":[1.0,-0.0],"text":"\u00e9 ,\"msg\":","n":2e1}`

// TestMessagesHaveTheTextOfTheirPayload: the members before the payload have the text that begins it.
func TestMessagesHaveTheTextOfTheirPayload(t *testing.T) {
	const begin = `a,"msg":`
	check := func(t *testing.T, s *server, p *page, listen string) {
		t.Helper()
		p.do(`window.messages = []; t.receive = (m) => { messages.push([m.json, m.meta?.[0][1], m.msg instanceof Uint8Array]); t.received.push(m.group); }; %s`, listen)
		publish := func(group string, msg any) {
			draft := watchbox.Draft{Group: group, Msg: msg, Meta: [][2]string{{"m", begin}}}
			if _, _, err := s.hub.PublishBatch(context.Background(), []watchbox.Draft{draft}); err != nil {
				t.Fatal(err)
			}
		}
		publish("b/"+begin, json.RawMessage(exact))
		publish("a", json.RawMessage(`"\u00e9"`))
		publish("a", []byte{0xff})
		publish("a", json.RawMessage(`9007199254740993`))
		p.until("messages.length >= 4")
		var got [][]any
		p.eval(&got, "return messages")
		want := [][]any{{exact, begin, false}, {`"\u00e9"`, begin, false}, {nil, begin, true}, {`9007199254740993`, begin, false}}
		if text(got) != text(want) {
			t.Errorf("the page got %s\nwant %s", text(got), text(want))
		}
	}
	t.Run("streams", func(t *testing.T) {
		eachKind(t, func(t *testing.T, kind, listen string) {
			if usesWatchboxJS(kind) {
				s := serve(t, &server{})
				check(t, s, openTestPage(t, s.url(), "/"), listen)
			}
		})
	})
	t.Run("proxies", func(t *testing.T) {
		eachHolding(t, func(t *testing.T, s *server, p *page, _ *holding, listen string, _ int) { check(t, s, p, listen) })
	})
	t.Run("parseMessage", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &server{})
		s.publish("a", json.RawMessage(exact))
		res, err := http.DefaultClient.Do(request(t, s.url()+"/v1/history/a"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		p := openTestPage(t, s.url(), "/")
		var got string
		p.eval(&got, `return (await import("/watchbox.js")).parseMessage(%q).json`, line)
		if got != exact {
			t.Errorf("%s, want %s", got, exact)
		}
	})
}

// request returns a request for messages as ndjson.
func request(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/x-ndjson")
	return r
}

// TestTheDashboardKeepsTheTextOfPayloads: of messages from the history, and of those from the stream.
func TestTheDashboardKeepsTheTextOfPayloads(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	first := json.RawMessage(strings.Replace(exact, "993", "992", 1))
	s.publish("a", first)
	d := openDashboard(t, s, "live?filter=a", `window.saved = []; URL.createObjectURL = (blob) => { saved.push(blob); return "#/live?filter=a"; };
		window.copied = []; Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { copied.push(text); } } });`)
	d.liveRows(1)
	s.publish("a", json.RawMessage(exact))
	d.liveRows(2)
	if got, want := d.rows(".payload"), []string{string(first), exact}; text(got) != text(want) {
		t.Errorf("the list has %q, want %q", got, want)
	}
	d.do(`document.querySelector(".list").focus()`)
	d.press(kb.ArrowUp, kb.Enter)
	const pre = `document.querySelector(".inspector pre")`
	d.until(pre + `?.textContent.startsWith('{\n  "n": 9007199254740993,\n  "10": [\n    1.0,\n    -0.0\n  ],\n  "text": "é ,')`)
	d.click("Raw")
	d.until(pre+".textContent === %q", exact)
	d.click("Hex")
	d.until(pre + `.textContent.includes("34 30 39 39 33 2c")`)
	d.click("Changes")
	d.until(pre + `.querySelector(".gone").textContent.includes('"n": 9007199254740992,') && ` + pre + `.querySelector(".new").textContent.includes('"n": 9007199254740993,')`)
	d.until(pre + `.querySelectorAll(".gone").length === 1`)
	for i, name := range []string{"Payload", "Copy as curl", "Copy as Go"} {
		d.click(name)
		d.until("copied.length === %d", i+1)
		if got := get[string](d, "copied[%d]", i); !strings.Contains(got, exact) {
			t.Errorf("%s: %s", name, got)
		}
	}
	d.click("Copy as JavaScript")
	d.until(`copied.at(-1).includes('"n": 9007199254740993,') && copied.at(-1).includes("// JavaScript rounds")`)
	d.click("Export")
	lines := strings.Split(get[string](d, "saved[0].text()"), "\n")
	for i, want := range []string{string(first), exact} {
		var m struct{ Msg json.RawMessage }
		if err := json.Unmarshal([]byte(lines[i]), &m); err != nil || string(m.Msg) != want {
			t.Errorf("line %d of %q: %v", i, lines, err)
		}
	}
	d.show("groups?group=a")
	d.until(`document.querySelector("main").textContent.includes(%q)`, exact)
}
