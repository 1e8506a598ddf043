package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// A gate decides which requests come in at all. It is one middleware for every route,
// known or not, so that no route can be forgotten.
type gate struct {
	tokens  []hashedToken // none: no token is asked for
	hosts   []string
	origins []string
	a       *api
}

func newGate(cfg Config, a *api) *gate {
	g := &gate{hosts: cfg.AllowHosts, origins: cfg.AllowOrigins, a: a}
	for _, t := range cfg.Tokens {
		g.tokens = append(g.tokens, hashedToken{sha256.Sum256([]byte(t.Secret)), t.View})
	}
	return g
}

// A Token is what lets a client in.
type Token struct {
	Secret string
	View   bool // it may list, read and attach as a viewer, and nothing else
}

type hashedToken struct {
	sum  [sha256.Size]byte
	view bool
}

// viewKey marks the context of a request that came with a token for viewing.
type viewKey struct{}

// ViewOnly reports whether a request that the door let through may only look. It is for
// handlers that the door mounts.
func ViewOnly(r *http.Request) bool {
	view, _ := r.Context().Value(viewKey{}).(bool)
	return view
}

// admit lets a request through or answers 401 or 403. The order matters: a page of another
// site learns nothing, not even whether a token is needed, and a browser asks whether it
// may send a token before it sends one.
func (g *gate) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.checkSource(r); err != nil {
			g.a.fail(w, r, err)
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" && g.allowsOrigin(origin) {
			grant(w.Header(), origin)
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		view, err := g.checkToken(r)
		if err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			g.a.fail(w, r, err)
			return
		}
		if view {
			if acts(r) {
				g.a.fail(w, r, refuse(http.StatusForbidden, codeForbidden, "this token is for viewing: it may list, read and attach with role=view"))
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), viewKey{}, true))
		}
		next.ServeHTTP(w, r)
	})
}

// acts reports whether a request does something: /ws creates a session.
func acts(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead || r.URL.Path == "/ws"
}

// checkSource looks at where a request comes from and whom it takes us for.
func (g *gate) checkSource(r *http.Request) error {
	origin := r.Header.Get("Origin")
	foreign := origin != "" && !sameHost(origin, r.Host) || r.Header.Get("Sec-Fetch-Site") == "cross-site"
	if foreign && !g.allowsOrigin(origin) {
		return refuse(http.StatusForbidden, codeForbidden, "a page of another site (origin %.200q) may not call this server; --allow-origin would let it", origin)
	}
	// With a token, a page that got here under another name cannot do anything. Probes
	// carry nothing worth hiding, and come under whatever address the machine has.
	if len(g.tokens) == 0 && !isProbe(r.URL.Path) && !g.allowsHost(r.Host) {
		return refuse(http.StatusForbidden, codeForbidden, "the host %.200q is not one of this server's; --allow-host would make it one, and with a token any would do", r.Host)
	}
	return nil
}

func isProbe(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/ping"
}

// isOpen reports whether a path is served without a token.
func isOpen(path string) bool {
	return path == "/" || isProbe(path) || path == "/favicon.ico" || strings.HasPrefix(path, assets)
}

// checkToken tells whether a request may only look, or fails. A request that shows several
// tokens has the most that any of them allows.
func (g *gate) checkToken(r *http.Request) (view bool, err error) {
	if len(g.tokens) == 0 || isOpen(r.URL.Path) {
		return false, nil
	}
	shown := tokens(r)
	known, control := 0, 0
	for _, token := range shown {
		// Both sides are hashed, so that the time taken tells not even the length.
		sum := sha256.Sum256([]byte(token))
		for _, t := range g.tokens {
			same := subtle.ConstantTimeCompare(sum[:], t.sum[:])
			known |= same
			if !t.view {
				control |= same
			}
		}
	}
	switch {
	case known == 1:
		return control == 0, nil
	case len(shown) > 0:
		return false, refuse(http.StatusUnauthorized, codeUnauthorized, "the token is wrong")
	}
	return false, refuse(http.StatusUnauthorized, codeUnauthorized, "a token is needed: send Authorization: Bearer TOKEN or X-EXECD-ACCESS-TOKEN: TOKEN")
}

// tokens lists what a request shows as its token. A browser cannot set headers on a
// WebSocket, so there it comes as a subprotocol.
func tokens(r *http.Request) (found []string) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		found = append(found, strings.TrimSpace(token))
	}
	if token := r.Header.Get("X-EXECD-ACCESS-TOKEN"); token != "" {
		found = append(found, token)
	}
	if !listed(r.Header, "Upgrade", "websocket") {
		return found
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for protocol := range strings.SplitSeq(line, ",") {
			encoded, ok := strings.CutPrefix(strings.TrimSpace(protocol), "bearer.")
			if token, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "=")); ok && err == nil {
				found = append(found, string(token))
			}
		}
	}
	return found
}

// allowsHost keeps out requests that a name of somebody else's, pointed at this machine,
// brought here: without a token, being reachable would be being allowed.
func (g *gate) allowsHost(host string) bool {
	name := hostName(host)
	if ip := net.ParseIP(name); name == "localhost" || strings.HasSuffix(name, ".localhost") || ip != nil && ip.IsLoopback() {
		return true
	}
	for _, allowed := range g.hosts {
		if strings.EqualFold(allowed, host) || strings.EqualFold(strings.Trim(allowed, "[]"), name) {
			return true
		}
	}
	return false
}

// hostName is a Host header without its port, the brackets of an address or a last dot.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

func (g *gate) allowsOrigin(origin string) bool {
	for _, allowed := range g.origins {
		if strings.EqualFold(strings.TrimSuffix(allowed, "/"), origin) {
			return true
		}
	}
	return false
}

// sameHost reports whether an Origin is the server the request went to.
func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	port := map[string]string{"http": ":80", "https": ":443"}[strings.ToLower(u.Scheme)]
	bare := func(s string) string { return strings.TrimSuffix(strings.ToLower(s), port) }
	return bare(u.Host) == bare(host)
}

// grant lets the scripts of an allowed foreign origin read the answer.
func grant(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, X-EXECD-ACCESS-TOKEN, X-Request-Id")
	h.Set("Access-Control-Expose-Headers", "X-Request-Id")
	h.Set("Access-Control-Max-Age", "600")
}
