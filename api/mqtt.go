package api

import (
	"net/http"
	"strings"

	"github.com/watchbox-go/watchbox/internal/access"
)

const mqttPath = "/mqtt"

// mqtt serves an MQTT client that connects by WebSocket. Its CONNECT packet has its token.
func (a *api) mqtt(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	if a.opts.MQTT == nil {
		return notFound(w, r, g)
	}
	if !hasToken(r.Header["Upgrade"], "websocket") || !hasToken(r.Header["Sec-Websocket-Protocol"], "mqtt") {
		w.Header().Set("Upgrade", "websocket")
		return &problem{status: http.StatusUpgradeRequired, code: "upgrade-required",
			detail: "MQTT clients connect here with a WebSocket and the subprotocol mqtt"}
	}
	a.opts.MQTT.ServeHTTP(w, r)
	return nil
}

// hasToken reports whether a header whose values are lists has a token.
func hasToken(header []string, token string) bool {
	for _, list := range header {
		for t := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}
