package storetest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/watchbox-go/watchbox/store"
)

var policyTests = []test{
	{"max_messages keeps that many of the newest messages", maxMessages},
	{"max_bytes keeps the newest messages up to that many bytes of frames", maxBytes},
	{"the server's policy is inherited", serverPolicy},
	{"the narrowest policy that sets a property wins, property by property", narrowest},
	{"a filter's own policy is told apart from what it inherits", ownPolicy},
	{"a change of a policy evicts at once, and restores nothing", changed},
	{"a policy for a pattern applies to new groups", laterGroups},
	{"Unbounded overrides an inherited bound", unbounded},
	{"compress does not change what is read, 2000 messages", compressed},
	{"one policy more than MaxPolicies is refused, and existing ones can be changed", tooManyPolicies},
}

func maxMessages(e *env) {
	l := e.start(Options{})
	l.policy("a", store.Policy{MaxMessages: 3})
	l.appendNumbers("a", 1, 3)
	l.want("a", "1 2 3")
	l.appendNumbers("a", 4, 10)
	l.want("a", "8 9 10")
	l.add(text("a", "11"), text("b", "12"), text("a", "13"), text("a", "14"), text("a", "15"))
	l.want("#", "12 13 14 15")
}

func maxBytes(e *env) {
	l := e.start(Options{})
	l.appendNumbers("a", 1, 9)
	three := int64(0)
	for _, f := range l.read(store.Query{Select: filters("a")}).Frames[6:] {
		three += int64(len(f.Bytes))
	}
	l.policy("a", store.Policy{MaxBytes: three})
	l.want("a", "7 8 9")
	l.policy("a", store.Policy{MaxBytes: three - 1})
	l.want("a", "8 9")
	l.appendTexts("a", strings.Repeat("x", int(three)))
	l.want("a", "")
	l.wantGaps(store.Query{Select: filters("a")}, "a:10")
}

func serverPolicy(e *env) {
	l := e.start(Options{Server: store.Policy{MaxMessages: 2}})
	l.appendNumbers("a", 1, 5)
	l.appendNumbers("b/c", 6, 9)
	l.want("#", "4 5 8 9")
	if p := l.Policy(filters("a")[0]); p.MaxMessages != 2 {
		e.Errorf("the policy in force is %+v", p)
	}
}

func narrowest(e *env) {
	l := e.start(Options{Server: store.Policy{MaxMessages: 6}})
	// They are not set in the order of their widths.
	for filter, n := range map[string]int64{"a/#": 4, "a/b": 2, "a/+": 3, "#": 5, "a": 1} {
		l.policy(filter, store.Policy{MaxMessages: n})
	}
	l.policy("a/b", store.Policy{MaxMessages: 2, MaxBytes: 1 << 20})
	for name, n := range map[string]int{"a": 1, "a/b": 2, "a/x": 3, "a/x/y": 4, "b": 5, "$b": 6} {
		l.appendNumbers(name, 1, 9)
		l.want(name, numbers(10-n, 9))
		p := l.Policy(filters(name)[0])
		if p.MaxMessages != int64(n) || (p.MaxBytes != 0) != (name == "a/b") || p.MaxAge != 0 {
			e.Errorf("%s: the policy in force is %+v", name, p)
		}
	}
}

func ownPolicy(e *env) {
	l := e.start(Options{Server: store.Policy{MaxMessages: 6}})
	wide, narrow := store.Policy{MaxMessages: 4, MaxBytes: store.Unbounded}, store.Policy{MaxBytes: 1 << 20}
	l.policy("a/#", wide)
	l.policy("a/b", narrow)
	for name, want := range map[string][3]int64{"a/b": {1 << 20, 4, 0}, "a/#": {store.Unbounded, 6, 0}, "a/c": {0, 4, 0}, "b": {0, 6, 0}} {
		own, inherited := l.OwnPolicy(filters(name)[0])
		if got := [3]int64{own.MaxBytes, inherited.MaxMessages, inherited.MaxBytes}; got != want || own.Store != "" {
			e.Errorf("%s has %+v itself and inherits %+v", name, own, inherited)
		}
	}
	l.policy("a/b", store.Policy{})
	if own, _ := l.OwnPolicy(filters("a/b")[0]); own != (store.Policy{}) {
		e.Errorf("after its removal the policy is %+v", own)
	}
}

func changed(e *env) {
	l := e.start(Options{})
	l.appendNumbers("a", 1, 9)
	l.appendNumbers("b", 1, 9)
	l.policy("+", store.Policy{MaxMessages: 4})
	l.want("a", "6 7 8 9")
	l.policy("a", store.Policy{MaxMessages: 2})
	l.want("a", "8 9")
	l.want("b", "6 7 8 9")
	l.policy("a", store.Policy{}) // removed: + holds again
	l.want("a", "8 9")
	l.appendNumbers("a", 10, 13)
	l.want("a", "10 11 12 13")
	l.policy("+", store.Policy{})
	l.appendNumbers("a", 14, 20)
	l.want("a", numbers(10, 20))
	l.wantGaps(store.Query{Select: filters("a")}, "a:9") // 10 of a is message 19
	l.wantGaps(store.Query{Select: filters("a"), After: l.at(9)}, "")
}

func laterGroups(e *env) {
	l := e.start(Options{})
	l.policy("log/#", store.Policy{MaxMessages: 1})
	for i := range 10 {
		l.appendNumbers(fmt.Sprint("log/", i), 1, 3)
	}
	l.want("log/#", strings.Repeat("3 ", 10))
}

func unbounded(e *env) {
	l := e.start(Options{Server: store.Policy{MaxMessages: 1, MaxBytes: 1}})
	l.policy("all/#", store.Policy{MaxMessages: store.Unbounded, MaxBytes: store.Unbounded})
	l.appendNumbers("all/a", 1, 9)
	l.want("#", numbers(1, 9))
}

func compressed(e *env) {
	l := e.start(Options{Server: store.Policy{Compress: store.Yes}})
	m := newModel(l.epoch(), store.Policy{Compress: store.Yes})
	for i := range 2000 {
		s := strings.Repeat(fmt.Sprint("message ", i%10, " "), i%100)
		m.add(l, []*store.Message{text([]string{"a", "b"}[i/50%2], s)})
	}
	m.setPolicy(filters("a")[0], store.Policy{MaxMessages: 700})
	l.policy("a", store.Policy{MaxMessages: 700})
	for _, set := range []string{"#", "a", "a b", "b"} {
		m.readAll(l, filters(set), 10_000)
		for after := 0; after < len(m.msgs); after += 111 {
			m.read(l, store.Query{Select: filters(set), After: l.at(after), Through: l.at(after + 50)}, 2000)
		}
	}
}

// tooManyPolicies sets policies from 50 goroutines, since each costs a commit on disk.
func tooManyPolicies(e *env) {
	l := e.start(Options{})
	one := store.Policy{MaxMessages: 1}
	const goroutines, each = 50, store.MaxPolicies / 50
	writers(goroutines, each, func(g, i int) {
		if err := l.SetPolicy(filters(fmt.Sprint("a/", g*each+i))[0], one); err != nil {
			e.Error(err)
		}
	})
	if err := l.SetPolicy(filters("b")[0], one); !errors.Is(err, store.ErrTooManyPolicies) {
		e.Errorf("one policy too many: %v", err)
	}
	l.appendNumbers("b", 1, 2)
	l.want("b", "1 2")
	l.policy("a/7", store.Policy{MaxMessages: 2})
	l.policy("a/8", store.Policy{})
	l.policy("b", one)
	l.appendNumbers("a/7", 1, 3)
	l.want("a/7 b", "2 2 3")
}
