package mqtt

import (
	"encoding/base64"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Names of metadata that stand for what MQTT knows of a message besides its user properties. Only the server uses names
// that begin with "$". A user property's name that begins with "$" gets another "$" in front.
const (
	qosMeta   = "$qos" // "0" or "2"; without it the message was published with QoS 1, or over HTTP
	typeMeta  = "$type"
	replyMeta = "$reply" // topic
	corrMeta  = "$corr"  // base64
	utf8Meta  = "$utf8"  // payload format indicator: "1" for UTF-8, "0"
)

// Metadata of messages without properties. They are not changed.
var (
	metaQoS0 = [][2]string{{qosMeta, "0"}}
	metaQoS2 = [][2]string{{qosMeta, "2"}}
)

// metaOf returns the metadata of a message with a QoS and the properties p. Its strings do not use the packet's memory.
func metaOf(qos byte, p *packets.Properties) (meta [][2]string) {
	switch qos {
	case 0:
		meta = metaQoS0
	case 2:
		meta = metaQoS2
	}
	meta = meta[:len(meta):len(meta)]
	add := func(name, value string) { meta = append(meta, [2]string{name, value}) }
	if p.PayloadFormatFlag {
		add(utf8Meta, string('0'+rune(p.PayloadFormat)))
	}
	if p.ContentType != "" {
		add(typeMeta, strings.Clone(p.ContentType))
	}
	if p.ResponseTopic != "" {
		add(replyMeta, strings.Clone(p.ResponseTopic))
	}
	if p.CorrelationData != nil {
		add(corrMeta, base64.StdEncoding.EncodeToString(p.CorrelationData))
	}
	for _, u := range p.User {
		name := strings.Clone(u.Key)
		if strings.HasPrefix(name, "$") {
			name = "$" + name
		}
		add(name, strings.Clone(u.Val))
	}
	return meta
}
