package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"reflect"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/watchbox-go/watchbox"
)

// serve is the command that runs a hub.
type serve struct {
	Config configFile `help:"YAML file with settings that have the names of these flags." placeholder:"FILE"`
	Listen string     `help:"Address to listen on: HOST:PORT, or unix:/PATH for a Unix socket." default:"127.0.0.1:1234"`

	ListenMode mode   `help:"Permissions of the Unix socket." default:"0660" placeholder:"MODE" group:"TLS and sockets:"`
	TlsCert    string `help:"Serve TLS with the certificate and its chain in this PEM file. It is read again when it changes." placeholder:"FILE" group:"TLS and sockets:"`
	TlsKey     string `help:"PEM file with the key of --tls-cert." placeholder:"FILE" group:"TLS and sockets:"`

	AcmeDomain   []string `help:"Serve TLS with a certificate for this name from an ACME server such as Let's Encrypt. This accepts the server's terms. May be repeated." placeholder:"NAME" group:"TLS and sockets:"`
	AcmeEmail    string   `help:"Contact for the ACME server." placeholder:"ADDRESS" group:"TLS and sockets:"`
	AcmeDir      string   `help:"Folder for the certificates. The default is acme in --data-dir." placeholder:"DIR" group:"TLS and sockets:"`
	AcmeUrl      string   `help:"Directory of the ACME server. The default is Let's Encrypt." placeholder:"URL" group:"TLS and sockets:"`
	AcmeCa       string   `help:"PEM file with the certificate authority of the ACME server itself, if the system does not trust it." placeholder:"FILE" group:"TLS and sockets:"`
	HttpRedirect string   `help:"Second address to listen on, for plain HTTP. It redirects to https and answers ACME challenges (HTTP-01)." placeholder:"ADDR" group:"TLS and sockets:"`

	H2C bool `name:"h2c" env:"WATCHBOX_H2C" help:"Also serve HTTP/2 without TLS, for proxies." group:"TLS and sockets:"`

	Mqtt             string        `name:"mqtt" help:"Also listen for MQTT clients on this address. Their password is their token." placeholder:"ADDR" group:"MQTT:"`
	Mqtts            string        `name:"mqtts" help:"Also listen for MQTT clients over TLS on this address, with the certificate of --tls-cert or --acme-domain." placeholder:"ADDR" group:"MQTT:"`
	MqttMaxKeepalive time.Duration `help:"Longest keep alive interval of an MQTT client. A client that is silent for 1.5 intervals is disconnected." default:"300s" group:"MQTT:"`
	MqttQueueQos0    bool          `name:"mqtt-queue-qos0" env:"WATCHBOX_MQTT_QUEUE_QOS0" help:"Send messages of QoS 0 that were published while a client was away when it returns to its session." default:"true" group:"MQTT:"`

	OpenToAnyone bool     `help:"Allow an address that other machines can reach. Everyone who can reach it may read, send and administer everything." group:"Access:"`
	TokenFile    string   `help:"File with API tokens, created by watchbox token create. It is read again when it changes." placeholder:"FILE" group:"Access:"`
	JwtKey       []string `help:"File with a key for JWTs: a PEM public key or a secret of at least 32 bytes. May be repeated." placeholder:"FILE" group:"Access:"`
	JwtJwks      string   `help:"URL or file of a JSON Web Key Set for JWTs." placeholder:"URL" group:"Access:"`
	JwtIssuer    string   `help:"Issuer (iss) that JWTs must have." placeholder:"NAME" group:"Access:"`
	JwtAudience  string   `help:"Audience (aud) that JWTs must have." placeholder:"NAME" group:"Access:"`

	AnonymousSubscribe []string `help:"Groups that callers without a token may subscribe to. May be repeated." placeholder:"FILTER" group:"Access:"`
	AnonymousPublish   []string `help:"Groups that callers without a token may publish to. May be repeated." placeholder:"FILTER" group:"Access:"`
	OpenMetrics        bool     `help:"Let everyone read /metrics. Otherwise it needs a token with admin." group:"Access:"`

	PublishRate         int      `help:"Maximum number of messages a second that a client may publish; 0: no limit. A client is the subject of a token or, without one, an address." default:"0" group:"Limits:"`
	MaxStreamsPerClient int      `help:"Maximum number of open streams of a client; 0: no limit." default:"0" group:"Limits:"`
	TrustedProxy        []string `help:"Address or range of proxies whose X-Forwarded-For and Forwarded headers are trusted. May be repeated." placeholder:"CIDR" group:"Limits:"`

	AllowHost   []string `help:"Host name to answer to, besides localhost and IP addresses: example.org, or *.example.org for all names below it. May be repeated." placeholder:"NAME" group:"Access:"`
	AllowOrigin []string `help:"Origin whose pages may use the hub: https://example.org, https://*.example.org, http://localhost:* or * (every page). May be repeated." placeholder:"ORIGIN" group:"Access:"`

	AllowCredentials bool     `help:"Let pages of the allowed origins send cookies and other credentials." group:"Access:"`
	Dashboard        string   `help:"Whether the hub's page is the dashboard (on) or only has links (off)." enum:"on,off" default:"on" group:"Access:"`
	IgnoreParam      []string `help:"Query parameter to ignore, because a proxy uses it: ticket, or utm_* for all that begin with utm_. May be repeated." placeholder:"NAME" group:"Access:"`

	DrainDelay  time.Duration `help:"After SIGTERM, how long to continue to serve, while /readyz answers 503, before streams are ended." default:"0s" group:"Connections:"`
	IdleTimeout time.Duration `help:"How long to keep a connection without requests open. Set it higher than the idle timeout of a load balancer." default:"2m" group:"Connections:"`

	Retry          time.Duration `help:"Reconnect delay sent to clients (SSE retry:)." default:"1s" group:"Streams:"`
	Heartbeat      time.Duration `help:"Interval of heartbeats on a stream without messages." default:"15s" group:"Streams:"`
	SessionTimeout time.Duration `help:"How long a disconnected session may take to reconnect before it is gone." default:"10s" group:"Streams:"`
	MaxStreams     int           `help:"Maximum number of open streams; 0: no limit. The default depends on the limit of open files." default:"${streams}" group:"Streams:"`
	MaxFilters     int           `help:"Maximum number of filters of a stream." default:"64" group:"Streams:"`
	MaxUnsent      size          `help:"Memory for partly sent messages of slow clients. If it is used up, a stream is ended, and its client resumes." default:"32MiB" group:"Streams:"`

	Profile     string        `help:"Defaults for memory and speed: memory (48MiB, compressed), balanced (128MiB) or speed (1GiB)." enum:"memory,balanced,speed" default:"balanced" group:"History:"`
	MaxMemory   *size         `help:"Memory for all history, including 40MiB for the process; the oldest messages are evicted first. The default depends on the profile." placeholder:"128MiB" group:"History:"`
	MaxMessages int64         `help:"Maximum number of messages that a group keeps; 0: no limit." default:"0" group:"History:"`
	MaxBytes    size          `help:"Maximum number of bytes that a group keeps; 0: no limit." default:"0" group:"History:"`
	MaxAge      time.Duration `help:"How long a group keeps a message; 0: no limit." default:"0s" group:"History:"`

	DataDir string `help:"Folder for messages, so that they survive a restart. Without it, messages are only in memory." placeholder:"DIR" group:"Disk:"`
	MaxDisk size   `help:"Maximum size of the folder; the oldest messages are evicted first; 0: no limit." default:"0" group:"Disk:"`
	Fsync   fsync  `help:"When to sync messages to disk: always (before a POST is answered), never (left to the operating system), or an interval such as 100ms." default:"always" group:"Disk:"`

	Nats         string `help:"NATS servers whose JetStream keeps the messages: hubs with the same servers and stream act as one. It excludes --data-dir." placeholder:"URL[,URL]" group:"Several hubs:"`
	NatsCreds    string `help:"File with the credentials of the NATS account." placeholder:"FILE" group:"Several hubs:"`
	NatsStream   string `help:"Name of the JetStream stream. The hub creates it if it does not exist." default:"WATCHBOX" placeholder:"NAME" group:"Several hubs:"`
	NatsReplicas int    `help:"On how many NATS servers a new stream is kept." default:"3" enum:"1,2,3,4,5" group:"Several hubs:"`

	MaxMessageSize size `help:"Maximum size of a message." default:"1MiB" group:"Messages:"`
	MaxGroups      int  `help:"Maximum number of groups." default:"100000" group:"Messages:"`

	MaxRequestMemory size          `help:"Memory for all request bodies that are being received and encoded, in addition to --max-memory." default:"64MiB" group:"Messages:"`
	BodyTimeout      time.Duration `help:"How long a request body may pause, and how long each 64 KiB of it may take." default:"30s" group:"Messages:"`

	LogLevel   string `help:"Lowest level to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info" group:"Log:"`
	LogFormat  string `help:"Log as text or json." enum:"text,json" default:"text" group:"Log:"`
	LogStreams bool   `help:"Log each stream when it opens and when it closes." group:"Log:"`
}

// Validate refuses settings with an empty value, which usually come from an unset variable. Ignoring them would be
// dangerous: without --token-file everyone may do everything, and without --data-dir messages do not survive a restart.
func (s *serve) Validate(ctx *kong.Context) error {
	for _, f := range ctx.Selected().Flags {
		switch v := f.Target; v.Kind() {
		case reflect.String, reflect.Slice:
			if f.Set && v.Len() == 0 {
				return fmt.Errorf("--%s: the value is empty: give one or omit the setting", f.Name)
			}
		}
	}
	return nil
}

// Run serves until SIGINT or SIGTERM.
func (s *serve) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP) // sent to reload a service's files, and when a terminal closes
	tell := s.teller()
	listening := false
	var hub *watchbox.Hub
	options := append(s.options(), watchbox.WithListening(func(a net.Addr) {
		listening = true
		fmt.Fprintf(os.Stderr, "watchbox listens on %s\n", s.url(a))
		tell("READY=1")
		go func() {
			for range reload {
				tell(reloading())
				hub.Reload()
				tell("READY=1")
			}
		}()
	}))
	opened := make(chan error, 1)
	go func() {
		var err error
		hub, err = watchbox.New(options...)
		opened <- err
	}()
	select {
	case err := <-opened:
		if err != nil {
			return usageError{err}
		}
	case <-ctx.Done(): // nobody uses the hub yet, and NATS servers may take half a minute to make the stream
		return nil
	}
	told := make(chan struct{})
	context.AfterFunc(ctx, func() { tell(stopping(s.DrainDelay)); close(told) })
	go trim(ctx)
	err := hub.Run(ctx, s.Listen, nil)
	if ctx.Err() != nil {
		<-told
	}
	if err != nil && !listening {
		err = usageError{err}
	}
	return errors.Join(err, hub.Close())
}

// teller returns a function that tells the service manager about the state, and logs why it cannot.
func (s *serve) teller() func(state string) {
	logger := s.logger()
	return func(state string) {
		if err := notify(state); err != nil {
			logger.Warn(err.Error())
		}
	}
}

// url returns the address that the hub listens on in the form that clients use.
func (s *serve) url(a net.Addr) string {
	switch {
	case a.Network() == "unix":
		return "unix:" + a.String()
	case s.TlsCert != "" || len(s.AcmeDomain) > 0:
		return "https://" + a.String()
	}
	return "http://" + a.String()
}

// Defaults of the flags for several hubs: another value without --nats is refused.
const (
	defaultStream   = "WATCHBOX"
	defaultReplicas = 3
)

func (s *serve) options() []watchbox.Option {
	o := []watchbox.Option{
		watchbox.WithLogger(s.logger()), watchbox.WithProfile(watchbox.Profile(s.Profile)),
		watchbox.WithRetry(s.Retry), watchbox.WithHeartbeat(s.Heartbeat), watchbox.WithSessionTimeout(s.SessionTimeout), watchbox.WithMaxMessageSize(int(s.MaxMessageSize)),
		watchbox.WithMaxRequestMemory(int64(s.MaxRequestMemory)), watchbox.WithBodyTimeout(s.BodyTimeout),
		watchbox.WithMaxGroups(s.MaxGroups), watchbox.WithMaxStreams(s.MaxStreams),
		watchbox.WithMaxFilters(s.MaxFilters), watchbox.WithMaxUnsent(int64(s.MaxUnsent)), watchbox.WithAllowOrigin(s.AllowOrigin...),
		watchbox.WithIgnoreParam(s.IgnoreParam...), watchbox.WithDashboard(s.Dashboard == "on"),
		watchbox.WithDrainDelay(s.DrainDelay), watchbox.WithIdleTimeout(s.IdleTimeout),
		watchbox.WithMaxMessages(s.MaxMessages), watchbox.WithMaxBytes(int64(s.MaxBytes)), watchbox.WithMaxAge(s.MaxAge),
	}
	o = append(o, s.accessOptions()...)
	o = append(o, s.listenOptions()...)
	if s.DataDir != "" {
		o = append(o, watchbox.WithDataDir(s.DataDir))
	}
	if s.Nats+s.NatsCreds != "" || s.NatsStream != defaultStream || s.NatsReplicas != defaultReplicas {
		o = append(o, watchbox.WithNATS(watchbox.NATS{URL: s.Nats, Creds: s.NatsCreds, Stream: s.NatsStream, Replicas: s.NatsReplicas}))
	}
	o = append(o, watchbox.WithMaxDisk(int64(s.MaxDisk)), watchbox.WithFsync(watchbox.Fsync(s.Fsync)))
	if len(s.AllowHost) > 0 {
		o = append(o, watchbox.WithAllowHost(s.AllowHost...))
	}
	if s.AllowCredentials {
		o = append(o, watchbox.WithAllowCredentials())
	}
	if s.OpenToAnyone {
		o = append(o, watchbox.WithOpenToAnyone())
	}
	if s.LogStreams {
		o = append(o, watchbox.WithLogStreams())
	}
	if s.MaxMemory != nil {
		o = append(o, watchbox.WithMaxMemory(int64(*s.MaxMemory)))
	}
	return o
}

// listenOptions returns the options for how the hub listens.
func (s *serve) listenOptions() []watchbox.Option {
	o := []watchbox.Option{watchbox.WithListenMode(fs.FileMode(s.ListenMode))}
	if s.TlsCert != "" || s.TlsKey != "" {
		o = append(o, watchbox.WithTLS(s.TlsCert, s.TlsKey))
	}
	if len(s.AcmeDomain) > 0 || s.AcmeEmail+s.AcmeDir+s.AcmeUrl+s.AcmeCa != "" {
		o = append(o, watchbox.WithACME(watchbox.ACME{Domains: s.AcmeDomain, Email: s.AcmeEmail, Dir: s.AcmeDir, URL: s.AcmeUrl, CAFile: s.AcmeCa}))
	}
	if s.HttpRedirect != "" {
		o = append(o, watchbox.WithHTTPRedirect(s.HttpRedirect))
	}
	if s.H2C {
		o = append(o, watchbox.WithH2C())
	}
	if s.Mqtt != "" {
		o = append(o, watchbox.WithMQTT(s.Mqtt))
	}
	if s.Mqtts != "" {
		o = append(o, watchbox.WithMQTTS(s.Mqtts))
	}
	return append(o, watchbox.WithMQTTMaxKeepAlive(s.MqttMaxKeepalive), watchbox.WithMQTTQueueQoS0(s.MqttQueueQos0))
}

// accessOptions returns the options for access control and limits of clients.
func (s *serve) accessOptions() (o []watchbox.Option) {
	if s.TokenFile != "" {
		o = append(o, watchbox.WithTokenFile(s.TokenFile))
	}
	if len(s.JwtKey) > 0 || s.JwtJwks != "" || s.JwtIssuer != "" || s.JwtAudience != "" {
		o = append(o, watchbox.WithJWT(watchbox.JWT{Keys: s.JwtKey, KeySet: s.JwtJwks, Issuer: s.JwtIssuer, Audience: s.JwtAudience}))
	}
	if len(s.AnonymousSubscribe) > 0 {
		o = append(o, watchbox.WithAnonymousSubscribe(s.AnonymousSubscribe...))
	}
	if len(s.AnonymousPublish) > 0 {
		o = append(o, watchbox.WithAnonymousPublish(s.AnonymousPublish...))
	}
	if s.OpenMetrics {
		o = append(o, watchbox.WithOpenMetrics())
	}
	return append(o, watchbox.WithPublishRate(s.PublishRate), watchbox.WithMaxStreamsPerClient(s.MaxStreamsPerClient),
		watchbox.WithTrustedProxy(s.TrustedProxy...))
}

func (s *serve) logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // kong has checked it
	o := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}
