package mqtt

import (
	"errors"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/internal/group"
)

func TestTopicsAndGroups(t *testing.T) {
	for topic, name := range map[string]string{
		"home/kitchen":  "home/kitchen",
		"/a":            "%/a",
		"a/":            "a/%",
		"/":             "%/%",
		"a//b":          "a/%/b",
		"https://x/1":   "https:/%/x/1",
		".":             "%.",
		"../a":          "%../a",
		"%":             "%",
		"%%":            "%%",
		"%/%%":          "%%/%%%",
		"%.":            "%%.",
		"%%..":          "%%%..",
		"%a":            "%a",
		"%%a":           "%%a",
		"100%":          "100%",
		"...":           "...",
		".a/b.":         ".a/b.",
		"+/#":           "+/#",
		"client//#":     "client/%/#",
		"$sys/stats":    "$sys/stats",
		"a/b/c/d/e/f/g": "a/b/c/d/e/f/g",
	} {
		if got := toGroup(topic); got != name {
			t.Errorf("the group of %q is %q, not %q", topic, got, name)
		}
		if got := toTopic(name); got != topic {
			t.Errorf("the topic of %q is %q, not %q", name, got, topic)
		}
	}
}

// level generates levels of topics, mostly those that groups must not have and those that look like escaped ones.
var level = rapid.OneOf(
	rapid.StringMatching(`%{0,3}\.{0,3}`),
	rapid.StringMatching(`%{0,3}\.{0,3}[a%.]?`),
	rapid.StringMatching(`[a-c%. ]{0,3}`),
)

func levels(t *rapid.T, name string) string {
	return strings.Join(rapid.SliceOfN(level, 1, 5).Draw(t, name), "/")
}

func TestEachTopicHasItsOwnGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topic := levels(t, "topic")
		name := toGroup(topic)
		if back := toTopic(name); back != topic {
			t.Fatalf("%q became the group %q and then the topic %q", topic, name, back)
		}
		if topic == "" {
			return
		}
		if err := group.Check(name); err != nil {
			t.Fatalf("the group of %q: %v", topic, err)
		}
		if other := levels(t, "other"); other != topic && toGroup(other) == name {
			t.Fatalf("%q and %q have the same group %q", topic, other, name)
		}
	})
}

func TestEachGroupHasItsOwnTopic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := levels(t, "group")
		if group.Check(name) != nil {
			return
		}
		if back := toGroup(toTopic(name)); back != name {
			t.Fatalf("the group %q became the topic %q and then the group %q", name, toTopic(name), back)
		}
	})
}

func TestAFilterMatchesATopicIfItMatchesItsGroup(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		match         bool
	}{
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"+/#", "/", true},
		{"a/+", "a/", true},
		{"a/#", "a", true},
		{"a//#", "a/", true},
		{"#", "$sys/a", false},
	} {
		_, f, err := filterOf(c.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Match(toGroup(c.topic)); got != c.match {
			t.Errorf("%s matches %s: %v", c.filter, c.topic, got)
		}
	}
}

func TestTopicsThatAreRefused(t *testing.T) {
	long := strings.Repeat("a/", group.MaxLevels) + "a"
	for topic, want := range map[string]error{
		"a": nil, "/": nil, "a b/ü": nil,
		"a/+": packets.ErrTopicNameInvalid, "#": packets.ErrTopicNameInvalid, "a\x01": packets.ErrTopicNameInvalid,
		"": packets.ErrTopicNameInvalid, long: packets.ErrTopicNameInvalid, strings.Repeat("a", 256): packets.ErrTopicNameInvalid,
		"$sys/a": packets.ErrNotAuthorized, "$": packets.ErrNotAuthorized,
	} {
		if _, err := groupOf(topic); !errors.Is(err, want) {
			t.Errorf("publishing to %q: %v, not %v", topic, err, want)
		}
	}
}

func TestFiltersOfSubscriptions(t *testing.T) {
	for _, c := range []struct{ topic, share, filter string }{
		{"a/+", "", "a/+"},
		{"$share/s/a/#", "s", "a/#"},
		{"$share/s//a", "s", "%/a"},
		{"$shared/a", "", "$shared/a"},
	} {
		share, f, err := filterOf(c.topic)
		if err != nil || share != c.share || f.String() != c.filter {
			t.Errorf("%q is the share %q and the filter %q, error %v", c.topic, share, f, err)
		}
	}
	for _, topic := range []string{
		"", "$share/", "$share/s", "$share/s/", "$share//a", "$share/+/a", "$share/s#/a", "$share/s/a/#/b", "a/#/b", "a+", "a\x7f",
	} {
		if _, _, err := filterOf(topic); !errors.Is(err, packets.ErrTopicFilterInvalid) {
			t.Errorf("%q: %v", topic, err)
		}
	}
}
