package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// A gate decides which requests come in at all. It is one middleware for every route,
// known or not, so that no route can be forgotten.
type gate struct {
	tokens  *Tokens // nil: no token is asked for
	hosts   []string
	origins []string
	a       *api

	hostAdvice, originAdvice string
}

func newGate(cfg Config, a *api) *gate {
	return &gate{tokens: cfg.Tokens, hosts: cfg.AllowHosts, origins: cfg.AllowOrigins, a: a, hostAdvice: advice(cfg.HostAdvice), originAdvice: advice(cfg.OriginAdvice)}
}

// advice is the end of a refusal.
func advice(text string) string {
	if text == "" {
		return ""
	}
	return "; " + text
}

// A Token is what lets a client in.
type Token struct {
	Secret string
	View   bool // it may list, read and attach as a viewer, and nothing else
}

// Tokens are those that let clients in. They may be replaced while the server is at work.
type Tokens struct {
	mu   sync.Mutex
	list []*heldToken
}

// A heldToken is a token and what it means that it is taken back. Only its hash is kept.
type heldToken struct {
	sum     [sha256.Size]byte
	view    bool
	revoked context.Context
	revoke  context.CancelCauseFunc
}

var errRevoked = errors.New("the token was taken back")

// NewTokens returns the tokens in list, of which there must be one.
func NewTokens(list ...Token) *Tokens {
	t := &Tokens{}
	t.Replace(list...)
	return t
}

// Replace makes list the tokens that let clients in. Whoever came in with one that is no
// longer there, or that may do less now, is cut off.
func (t *Tokens) Replace(list ...Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var next []*heldToken
	for _, token := range list {
		sum := sha256.Sum256([]byte(token.Secret))
		same := func(h *heldToken) bool { return h.sum == sum && h.view == token.View }
		if i := slices.IndexFunc(t.list, same); i >= 0 {
			next = append(next, t.list[i])
			continue
		}
		h := &heldToken{sum: sum, view: token.View}
		h.revoked, h.revoke = context.WithCancelCause(context.Background())
		next = append(next, h)
	}
	for _, h := range t.list {
		if !slices.Contains(next, h) {
			h.revoke(errRevoked)
		}
	}
	t.list = next
}

// find returns the token that allows the most of those that are shown, or nil.
func (t *Tokens) find(shown []string) (found *heldToken) {
	t.mu.Lock()
	list := t.list
	t.mu.Unlock()
	for _, secret := range shown {
		// Both sides are hashed, so that the time taken tells not even the length; and all
		// are looked at, whichever it is.
		sum := sha256.Sum256([]byte(secret))
		for _, h := range list {
			if subtle.ConstantTimeCompare(sum[:], h.sum[:]) == 1 && (found == nil || !h.view) {
				found = h
			}
		}
	}
	return found
}

// tokenKey is where the context of a request has the token it came with.
type tokenKey struct{}

func tokenOf(r *http.Request) *heldToken {
	h, _ := r.Context().Value(tokenKey{}).(*heldToken)
	return h
}

// ViewOnly reports whether a request that the door let through may only look. It is for
// handlers that the door mounts.
func ViewOnly(r *http.Request) bool {
	h := tokenOf(r)
	return h != nil && h.view
}

// Revoked returns a context that ends when the token that a request came with is taken
// back. It is for handlers that outlive the request's own context, which ends then too.
func Revoked(r *http.Request) context.Context {
	if h := tokenOf(r); h != nil {
		return h.revoked
	}
	return context.Background()
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
		token, err := g.checkToken(r)
		if err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			g.a.fail(w, r, err)
			return
		}
		if token == nil {
			next.ServeHTTP(w, r)
			return
		}
		if token.view && acts(r) {
			g.a.fail(w, r, refuse(http.StatusForbidden, codeForbidden, "this token is for viewing: it may list, read and watch"))
			return
		}
		ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), tokenKey{}, token))
		defer cancel(nil)
		defer context.AfterFunc(token.revoked, func() { cancel(errRevoked) })()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// acts reports whether a request does something: /ws creates a session.
func acts(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead || r.URL.Path == "/ws"
}

// checkSource looks at where a request comes from and whom it takes us for.
func (g *gate) checkSource(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if isForeign(r) && !g.allowsOrigin(origin) {
		return refuse(http.StatusForbidden, codeForbidden, "a page of another site (origin %.200q) may not call this server%s", origin, g.originAdvice)
	}
	// With a token, a page that got here under another name cannot do anything. Probes
	// carry nothing worth hiding, and come under whatever address the machine has.
	if g.tokens == nil && !isProbe(r.URL.Path) && !g.allowsHost(r.Host) {
		return refuse(http.StatusForbidden, codeForbidden, "the host %.200q is not one of this server's%s", r.Host, g.hostAdvice)
	}
	return nil
}

// isForeign reports whether a page of another origin is behind a request. Browsers say so
// in Origin wherever the page could do harm or read the answer, and in Sec-Fetch-Site, which
// old ones do not have, with every request. A page of this machine's other ports is of the
// same site and no less foreign. To follow a link to a page of ours is no request of that page.
func isForeign(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" && !sameHost(origin, r.Host) {
		return true
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "cross-site" && site != "same-site" {
		return false
	}
	link := r.Method == http.MethodGet && isPage(r.URL.Path) && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	return !link
}

func isProbe(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/ping"
}

// isPage reports whether a path is that of a page. One has to come without a token, which a
// browser cannot send with it.
func isPage(path string) bool { return path == "/" || path == "/docs" }

// isOpen reports whether a path is served without a token.
func isOpen(path string) bool {
	return isPage(path) || isProbe(path) || path == "/favicon.ico" || strings.HasPrefix(path, assets)
}

// checkToken returns the token a request came with, nil where none is asked for, or fails.
// A request that shows several has the most that any of them allows.
func (g *gate) checkToken(r *http.Request) (*heldToken, error) {
	if g.tokens == nil || isOpen(r.URL.Path) {
		return nil, nil
	}
	shown := tokens(r)
	if found := g.tokens.find(shown); found != nil {
		return found, nil
	}
	if len(shown) > 0 {
		return nil, refuse(http.StatusUnauthorized, codeUnauthorized, "the token is wrong")
	}
	return nil, refuse(http.StatusUnauthorized, codeUnauthorized, "a token is needed: send Authorization: Bearer TOKEN or X-EXECD-ACCESS-TOKEN: TOKEN")
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
	for _, pattern := range g.origins {
		if matchOrigin(pattern, strings.ToLower(origin)) {
			return true
		}
	}
	return false
}

// CheckOriginPattern fails where a pattern is none that Config.AllowOrigins can hold: an
// origin, in which the first label of the host and the port may be "*".
func CheckOriginPattern(pattern string) error {
	scheme, host, port, ok := splitOrigin(pattern)
	rest, wild := strings.CutPrefix(host, "*.")
	switch {
	case host == "*" || wild && !strings.Contains(rest, "."):
		return fmt.Errorf("%q would let the pages of nearly everybody in: name the host, as in https://example.com or https://*.example.com", pattern)
	case !ok || scheme == "" || rest == "" || strings.ContainsAny(rest, "*/@?# ") || strings.Contains(scheme, "*") || port != "*" && strings.Contains(port, "*"):
		return fmt.Errorf("%q is not an origin: write scheme://host or scheme://host:port, as in https://example.com, https://*.example.com or http://localhost:*", pattern)
	}
	return nil
}

// matchOrigin compares an origin in lower case with a pattern.
func matchOrigin(pattern, origin string) bool {
	pattern = strings.TrimSuffix(strings.ToLower(pattern), "/")
	if pattern == origin {
		return true
	}
	scheme, host, port, ok := splitOrigin(pattern)
	s, h, p, fine := splitOrigin(origin)
	if !ok || !fine || s != scheme || p != port && port != "*" {
		return false
	}
	if domain, wild := strings.CutPrefix(host, "*"); wild {
		label, found := strings.CutSuffix(h, domain)
		return found && label != "" && domain != ""
	}
	return h == host
}

// splitOrigin cuts scheme://host:port, in which the port of the scheme may be missing.
func splitOrigin(origin string) (scheme, host, port string, ok bool) {
	scheme, host, ok = strings.Cut(origin, "://")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		return scheme, host[:i], host[i+1:], ok && i+1 < len(host)
	}
	return scheme, host, map[string]string{"http": "80", "https": "443"}[scheme], ok
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
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, Traceparent, Tracestate, X-EXECD-ACCESS-TOKEN, X-Request-Id")
	h.Set("Access-Control-Expose-Headers", "X-Request-Id")
	h.Set("Access-Control-Max-Age", "600")
}
