package mqtt

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/group"
)

// toGroup returns the name of the group that an MQTT topic stands for. Groups have no level that is empty, "." or "..";
// in front of such a level there is a "%". So that the translation is reversible, a "%" also comes in front of a level
// that consists of one or more "%" and, after them, nothing, "." or "..". All other levels stay as they are:
//
//	/a ⇄ %/a    a//b ⇄ a/%/b    https://x/1 ⇄ https:/%/x/1    %/a ⇄ %%/a    100% ⇄ 100%
//
// A topic is not empty, so a name that consists of "%" only stays as it is, too.
//
// It translates filters, too. Levels with "+" or "#" stay as they are, and "+" matches an empty level.
func toGroup(topic string) string { return translate(topic, escapeLevel) }

// toTopic returns the MQTT topic that toGroup translates into a group's name.
func toTopic(group string) string { return translate(group, unescapeLevel) }

// translate replaces each level of a name that begins with "%", or that a group must not have. Most names have none.
func translate(name string, level func(string) string) string {
	if plain(name) || strings.Trim(name, "%") == "" {
		return name
	}
	levels := strings.Split(name, "/")
	for i, l := range levels {
		levels[i] = level(l)
	}
	return strings.Join(levels, "/")
}

// plain reports whether no level of a name is empty or begins with "%" or ".".
func plain(name string) bool {
	begin := true
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '/' && begin, begin && (c == '%' || c == '.'):
			return false
		default:
			begin = c == '/'
		}
	}
	return !begin
}

func escapeLevel(l string) string {
	if special(l) {
		return "%" + l
	}
	return l
}

func unescapeLevel(l string) string {
	if strings.HasPrefix(l, "%") && special(l) {
		return l[1:]
	}
	return l
}

// special reports whether a level consists of any number of "%" and, after them, nothing, "." or "..".
func special(l string) bool {
	switch strings.TrimLeft(l, "%") {
	case "", ".", "..":
		return true
	}
	return false
}

// groupOf returns the group that a client may publish to by an MQTT topic. The error is a packets.Code.
func groupOf(topic string) (string, error) {
	name := toGroup(topic)
	if group.Check(name) != nil { // also an empty topic
		return "", packets.ErrTopicNameInvalid
	}
	if strings.HasPrefix(name, "$") {
		return "", packets.ErrNotAuthorized // these are the server's own
	}
	return name, nil
}

// sharePrefix begins the filter of a shared subscription. The name of the share and the filter follow.
const sharePrefix = "$share/"

// maxShareName is how many bytes the name of a share has at most: with it and a filter, it is the key of a position.
const maxShareName = cursor.MaxKey - len(sharedPrefix) - len("/") - group.MaxBytes

// filterOf returns the filter that an MQTT topic filter stands for, and the name of the share if it is a shared
// subscription. The error is a packets.Code.
func filterOf(topic string) (share string, f group.Filter, err error) {
	if rest, ok := strings.CutPrefix(topic, sharePrefix); ok {
		share, topic, ok = strings.Cut(rest, "/")
		if !ok || share == "" || len(share) > maxShareName || topic == "" || strings.ContainsAny(share, "+#") {
			return "", group.Filter{}, packets.ErrTopicFilterInvalid
		}
	}
	if f, err = group.ParseFilter(toGroup(topic)); err != nil {
		return "", group.Filter{}, packets.ErrTopicFilterInvalid
	}
	return share, f, nil
}
