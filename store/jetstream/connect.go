package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
)

// connect connects to the servers. Once it has succeeded, the connection is renewed for ever.
func (l *Log) connect() error {
	o := []nats.Option{
		nats.Name(l.clientName()),
		nats.CustomInboxPrefix(l.inboxes()),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), // an append fails while there is no connection, and is not sent later without notice
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.PingInterval(2 * l.opts.Times.Beat),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			l.offline.Store(true)
			l.tail.cut()
			l.unheard.cut()
			if err != nil {
				l.lost(err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			l.offline.Store(false)
			l.tail.restart()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { l.failed(err) }),
	}
	if l.opts.Creds != "" {
		if err := checkCreds(l.opts.Creds); err != nil {
			return err
		}
		o = append(o, nats.UserCredentials(l.opts.Creds))
	}
	if l.opts.Dialer != nil {
		o = append(o, nats.SetCustomDialer(l.opts.Dialer))
	}
	nc, err := nats.Connect(l.opts.URL, o...)
	switch {
	case errors.Is(err, nats.ErrNoServers):
		return fmt.Errorf("no NATS server answers at %s: start one, or correct the URL", redacted(l.opts.URL))
	case errors.Is(err, nats.ErrAuthorization) && l.opts.Creds == "":
		return fmt.Errorf("the NATS server at %s requires credentials, or refuses those in its URL: pass --nats-creds, or nats://USER:PASSWORD@HOST", redacted(l.opts.URL))
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		return fmt.Errorf("the NATS server at %s refuses the credentials in %q: %w: create new ones for its account", redacted(l.opts.URL), l.opts.Creds, err)
	case err != nil:
		return fmt.Errorf("connecting to NATS at %s: %w", redacted(l.opts.URL), err)
	}
	l.nc = nc
	if least := int64(l.opts.MaxMessage + maxHead); nc.MaxPayload() < least {
		l.opts.Logger.Warn("the NATS servers refuse messages that this hub takes, which are answered with 413: raise max_payload of the servers, or lower --max-message-size",
			"max_payload", nc.MaxPayload(), "needed", least)
	}
	return nil
}

// failed handles an error of a server that no call returns.
func (l *Log) failed(err error) {
	if denied := denialOf(err); denied != nil {
		err = denied
		if fail := l.opening.Load(); fail != nil {
			(*fail)(denied)
			return
		}
	}
	if errors.Is(err, nats.ErrSlowConsumer) { // what the client has dropped may have told of a purge
		l.unheard.begin()
		l.unheard.look()
	}
	if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, io.EOF) {
		return // the connection is lost, or another one cannot be made, which is told once
	}
	l.opts.Logger.Warn("an error of NATS", "error", err)
}

// checkCreds returns why a file cannot have credentials.
func checkCreds(file string) error {
	b, err := os.ReadFile(file)
	switch {
	case err != nil:
		return fmt.Errorf("the credentials of the NATS account: %w", err)
	case !bytes.Contains(b, []byte("-----BEGIN NATS USER JWT-----")) || !bytes.Contains(b, []byte("-----BEGIN USER NKEY SEED-----")):
		return fmt.Errorf("the credentials of the NATS account: %q has no user JWT and seed: pass a file made by nsc generate creds", file)
	}
	return nil
}

// redacted returns the URLs of servers without what is before an @, which may be a password or a token.
func redacted(urls string) string {
	list := strings.Split(urls, ",")
	for i, u := range list {
		if at := strings.LastIndexByte(u, '@'); at >= 0 {
			scheme := strings.Index(u[:at], "://")
			if scheme >= 0 {
				scheme += len("://")
			}
			list[i] = u[:max(scheme, 0)] + u[at+1:]
		}
	}
	return strings.Join(list, ",")
}

// maxHead is how much larger than its body a message in the stream usually is at most: headers and what a record has beside it.
const maxHead = 16 << 10
