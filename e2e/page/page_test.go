// Package page uses the page and its client.js in Chromium, against an API of its
// own, so that each failure comes when the test wants it. The tests against the
// deployed stack are in the package above.
package page

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"async-download/e2e/browser"
)

// fast makes a page's time pass ten times as fast.
const fast = `{
	const [now, later, every, limit, start] = [Date.now, setTimeout, setInterval, AbortSignal.timeout, Date.now()]
	Date.now = () => start + (now() - start) * 10
	window.setTimeout = (f, ms) => later(f, ms / 10)
	window.setInterval = (f, ms) => every(f, ms > 60_000 ? 1_000 : ms / 10)
	AbortSignal.timeout = (ms) => limit.call(AbortSignal, ms / 10)
}`

// still stops a page's time, for the test to move it.
const still = `{ window.time = 1e12; Date.now = () => time }`

func TestPage(t *testing.T) {
	chromium := browser.Start(t)
	open := func(t *testing.T, a *fakeAPI, scripts ...string) *browser.Tab {
		t.Helper()
		return browser.Open(t, chromium, a.url+"/", scripts...)
	}
	// copying starts a download that has 3 of 10 MB.
	copying := func(t *testing.T, a *fakeAPI, p *browser.Tab) {
		t.Helper()
		a.say(progress(3e6, 10e6))
		p.Enter("reports/2026.pdf")
		p.Until("progress", `view.phase === "copying" && page.progress.value === 0.3`)
	}
	// kept is everything that the page leaves in the browser.
	kept := func(p *browser.Tab) string {
		return browser.Eval[string](p, `JSON.stringify([sessionStorage, localStorage, location.href, document.cookie])`)
	}
	title := func(text string) string { return fmt.Sprintf(`page.title.textContent === %q`, text) }

	t.Run("success", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := browser.Open(t, chromium, a.url) // without a slash
		a.say(event{"type": "progress", "bytesCopied": 0, "bytesTotal": nil})
		p.Enter("reports/2026.pdf")
		p.Until("the wait", title("Waiting for the file server…"), `!page.progress.hasAttribute("value")`, `page.bytes.textContent === ""`,
			`getComputedStyle(page.progress).animationName === "along"`)
		p.Emulate("prefers-reduced-motion", "reduce")
		if got := browser.Eval[string](p, `getComputedStyle(page.progress).animationName`); got != "none" {
			t.Errorf("with reduced motion: got animation %q, want none", got)
		}
		a.say(progress(3e6, 10e6))
		p.Until("progress", title("Copying 2026.pdf…"), `page.live.textContent === "Copying 2026.pdf…"`,
			`document.title === "30 % – 2026.pdf"`, `page.bytes.textContent === "2.9 MiB of 9.5 MiB"`)
		a.ready("the report.pdf")
		p.Saved("the report.pdf", contentSum())
		p.Until("the end", title("Ready: the report.pdf"), `page.live.textContent === "Ready: the report.pdf"`,
			`document.title === "Ready – the report.pdf"`)
		p.Quiet()
	})

	t.Run("rate and time left", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a, still)
		// Copies as origins make them: bytes(t) of total, and what the page says of them.
		for name, origin := range map[string]string{
			"steady":               `(t) => 300e3 * t`,
			"in bursts":            `(t) => 3e6 * Math.floor(t / 3)`,
			"after a wait":         `(t) => 200e3 * Math.max(0, t - 7)`,
			"slower than at first": `(t) => t < 4 ? 4e6 * t : 16e6 + 200e3 * (t - 4)`,
			"faster than at first": `(t) => t < 4 ? 50e3 * t : 200e3 + 2e6 * (t - 4)`,
		} {
			estimates := browser.Eval[[]float64](p, `(() => {
				const copied = `+origin+`, pace = new Pace()
				const begin = [...Array(100).keys()].find((t) => copied(t) > 0) - 1, end = begin + 60
				let before = -1
				return [...Array(end).keys()].slice(begin).map((t) => {
					if (copied(t) !== before) pace.add(before = copied(t), t * 1000)
					const rate = pace.rate(t * 1000)
					return rate ? (copied(end) - copied(t)) / rate / (end - t) : 0
				})
			})()`)
			for second, got := range estimates {
				if second < 4 && got != 0 || second >= 15 && second <= 50 && (got < 1/1.5 || got > 1.5) {
					t.Errorf("%s: after %d s: got %.2f times the time left", name, second, got)
				}
			}
		}

		a.say(progress(0, 10e6))
		p.Enter("slow.bin")
		p.Until("the socket", `view.line === "live" && view.total === 10e6`)
		for second := 1; second <= 15; second++ {
			p.JS(`time += 1000`)
			a.say(progress(second*300e3, 10e6))
			p.Until("progress", fmt.Sprintf(`view.copied === %d`, second*300_000))
			if got := p.Text("pace"); (got != "") != (second >= 4) {
				t.Errorf("after %d s: got %q", second, got)
			}
		}
		if got := p.Text("pace"); got != "293 KiB/s · 18 s left" { // (10 MB - 4.5 MB) / 0.3 MB/s
			t.Errorf("after 15 s: got %q", got)
		}
		p.JS(`time += 9000`)
		a.set(func() { a.frozen = true })
		p.JS(`show({})`)
		if got := p.Text("pace"); got == "" {
			t.Error("after 9 s without news there is no rate")
		}
		p.JS(`time += 2000`)
		p.Until("no rate", `page.pace.textContent === "" && busy()`)
	})

	t.Run("offline", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a)
		p.Offline(true)
		a.set(func() { a.answer = func(*http.Request) (int, any) { return -1, nil } })
		p.Enter("reports/2026.pdf")
		p.Until("the reason", `page.line.textContent === "You’re offline. The download starts when you’re back online."`,
			`page.live.textContent === page.line.textContent`)
		a.set(func() { a.answer = nil })
		a.say(progress(3e6, 10e6))
		p.Offline(false)
		p.Until("progress", `page.line.hidden && page.progress.value === 0.3`)
		p.Offline(true)
		a.set(func() { a.noSockets = true })
		p.Until("the reason", `page.line.textContent.startsWith("You’re offline. The copy continues") && page.pace.textContent === ""`)
		a.set(func() { a.noSockets = false })
		p.Offline(false)
		p.Until("the connection", `view.line === "live" && page.line.hidden && page.live.textContent === "The connection is back."`)
		a.ready("2026.pdf")
		p.Saved("2026.pdf", contentSum())
		if keys := a.header("/download/", "Idempotency-Key"); len(slices.Compact(keys)) != 1 {
			t.Errorf("keys: got %q, want one", keys)
		}
		p.Quiet("network")
	})

	t.Run("a dead connection", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a, fast)
		copying(t, a, p)
		a.set(func() { a.frozen = true })
		p.Until("the reason", `page.line.textContent === "Connection lost, trying again. The copy continues."`,
			`page.live.textContent === page.line.textContent`, `page.pace.textContent === ""`)
		a.set(func() { a.frozen = false })
		p.Until("the connection", `page.line.hidden && view.line === "live"`)
		if got := a.count("SOCKET"); got < 2 {
			t.Errorf("got %d sockets, want another one", got)
		}
		a.ready("2026.pdf")
		p.Saved("2026.pdf", contentSum())
		if got := a.count("GET /download/"); got != 1 {
			t.Errorf("got %d requests for the file, want one", got)
		}
		p.Quiet("network")
	})

	t.Run("a dead socket", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a, fast)
		copying(t, a, p)
		a.set(func() { a.mute = true })
		a.say(progress(5e6, 10e6))
		p.Until("progress by HTTP", `page.progress.value === 0.5`)
		a.set(func() { a.mute = false })
		p.Until("another socket", `view.line === "live"`)
		a.ready("2026.pdf")
		p.Saved("2026.pdf", contentSum())
		if got := a.count("SOCKET"); got < 2 {
			t.Errorf("got %d sockets, want another one", got)
		}
	})

	t.Run("no polls beside an open socket", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a, fast, `{
			const [Socket, ask] = [WebSocket, fetch]
			let heard = 0
			window.sent = []
			window.silences = [] // before each poll
			window.WebSocket = class extends Socket {
				constructor(...to) {
					super(...to)
					for (const event of ["open", "message"]) this.addEventListener(event, () => { heard = Date.now() })
				}
				send(data) { sent.push(data); super.send(data) }
			}
			window.fetch = (url, options) => {
				if (heard && String(url).includes("/executions/")) silences.push(Date.now() - heard)
				return ask(url, options)
			}
		}`)
		copying(t, a, p)
		for n := range 20 { // each second, as the page sees it; on a busy machine it may see less often
			a.say(progress(3e6+n, 10e6))
			p.Until("progress", fmt.Sprintf(`view.copied === %d`, 3_000_000+n))
			time.Sleep(100 * time.Millisecond)
		}
		if got := browser.Eval[float64](p, `Math.min(1e9, ...silences)`); got < 10_000 {
			t.Errorf("polled after a silence of %v ms, want 10 s", got)
		}
		p.Until("a ping", `sent[0] === '{"action":"ping"}'`)
	})

	t.Run("sockets blocked", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a, fast)
		a.set(func() { a.noSockets = true })
		copying(t, a, p)
		p.Until("the reason", `page.line.textContent.startsWith("No live connection")`)
		a.ready("2026.pdf")
		p.Saved("2026.pdf", contentSum())
		if got := a.header("/executions/", "X-Download-Ticket"); got[0] != "a-ticket" {
			t.Errorf("the ticket: got %q", got)
		}
		p.Quiet("network")
	})

	t.Run("lost answers", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a, fast)
		a.set(func() { a.answer = func(*http.Request) (int, any) { return -1, nil } })
		p.Enter("reports/2026.pdf")
		p.Until("the reason", `page.line.textContent === "Connection lost, trying again."`)
		p.Until("the failure", title("The download failed"), `page.advice.textContent === "Check your connection and try again."`)
		p.Click("again") // may have been started: the same attempt
		p.Until("another try", `busy()`)
		p.Do(chromedp.Reload()) // so may this
		a.set(func() {
			a.answer = func(r *http.Request) (int, any) {
				if strings.HasPrefix(r.URL.Path, "/dev/download/") && strings.Count(strings.Join(a.asked(), "\n"), "GET /download/") < 9 {
					return http.StatusServiceUnavailable, event{"message": "Service Unavailable"}
				}
				return 0, nil
			}
		})
		a.ready("2026.pdf")
		p.Saved("2026.pdf", contentSum())
		keys := a.header("/download/", "Idempotency-Key")
		if len(keys) < 7 || len(slices.Compact(keys)) != 1 || len(keys[0]) != 36 {
			t.Errorf("keys of one attempt: got %q", keys)
		}
		p.Enter("reports/2026.pdf") // the same path, but another attempt
		a.ready("again.pdf")
		p.Saved("again.pdf", contentSum())
		if again := a.header("/download/", "Idempotency-Key"); again[len(again)-1] == keys[0] {
			t.Error("another attempt has the same key")
		}
	})

	t.Run("the path as typed", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a)
		a.set(func() { a.answer = func(*http.Request) (int, any) { return http.StatusForbidden, event{} } })
		for typed, want := range map[string]string{
			"":                     "/download",
			"?a=1":                 "/download?a=1",
			"?a=../b":              "/download?a=../b",
			"/a/b.bin?x=1&x=2":     "/download/a/b.bin?x=1&x=2",
			"  ä b.pdf ":           "/download/%C3%A4%20b.pdf",
			"a%20b/100%.pdf?c#d=1": "/download/a%20b/100%25.pdf?c%23d=1",
			"https://x.example/a":  "/download/https://x.example/a",
			"...":                  "/download/...",
			"a/.hidden/..b":        "/download/a/.hidden/..b",
		} {
			before := a.count("GET /download")
			p.Enter(typed)
			p.Until("the request", title("The download failed"))
			if all := a.asked(); a.count("GET /download") != before+1 || all[len(all)-1] != "GET "+want {
				t.Errorf("%q: got %s, want GET %s", typed, all[len(all)-1], want)
			}
		}
		before := a.count("")
		for _, refused := range []string{"..", ".", "../x", "a/../b", "a/..", "./a", `a\..\b`, "%2e%2E/x", "a/.%2e?b", "/..", "a%5c../b"} {
			p.JS(`show({phase: "idle"})`)
			p.Enter(refused)
			p.Until(refused, title("The download failed"), `page.message.textContent.includes("“..”")`)
		}
		if got := a.count(""); got != before {
			t.Errorf("a path that is refused was asked for: %q", a.asked()[before:])
		}
	})

	t.Run("advice", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a)
		for _, test := range []struct{ code, message, want string }{
			{"ORIGIN_STATUS", "the origin answered 401 Unauthorized", "doesn’t allow access"},
			{"ORIGIN_STATUS", "the origin answered 403 Forbidden", "doesn’t allow access"},
			{"ORIGIN_STATUS", "the origin answered 404 Not Found", "There is no such file"},
			{"ORIGIN_STATUS", "the origin answered 410 Gone", "There is no such file"},
			{"ORIGIN_STATUS", "the origin answered 429 Too Many Requests", "The file server has a problem"},
			{"ORIGIN_STATUS", "the origin answered 503 Service Unavailable", "The file server has a problem"},
			{"ORIGIN_STATUS", "the origin answered 400 Bad Request", "doesn’t accept this request"},
			{"ORIGIN_UNREACHABLE", "the origin can't be reached", "may be down"},
			{"INVALID_PATH", "this API doesn't serve this path", "only some folders"},
			{"EXPIRED", "the file is no longer kept", "Start the download again"},
			{"INTERNAL", "an unexpected error", "contact the people"},
		} {
			a.say(failed(test.code, test.message))
			p.Enter("reports/2026.pdf")
			p.Until(test.message, title("The download failed"), fmt.Sprintf(`page.message.textContent === %q`, test.code+" "+test.message),
				`page.advice.checkVisibility()`)
			if got := p.Text("advice"); !strings.Contains(got, test.want) {
				t.Errorf("%s: got advice %q", test.message, got)
			}
			if got := p.Text("live"); !strings.Contains(got, test.message) || !strings.Contains(got, test.want) {
				t.Errorf("%s: announced %q", test.message, got)
			}
			p.JS(`show({phase: "idle"})`)
		}
		a.set(func() {
			a.answer = func(*http.Request) (int, any) { return http.StatusForbidden, event{"message": "Forbidden"} }
		})
		p.Enter("x")
		p.Until("the refusal", `page.message.textContent === "UNAUTHORIZED the API answered 403 Forbidden"`,
			`page.advice.textContent.includes("doesn’t let this page in")`)
	})

	t.Run("cancel", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a)
		copying(t, a, p)
		for _, id := range []string{"start", "cancel"} { // by keyboard
			p.Do(chromedp.KeyEvent(kb.Tab))
			if got := browser.Eval[string](p, `document.activeElement.id + " " + getComputedStyle(document.activeElement).outlineStyle`); got != id+" solid" {
				t.Errorf("Tab: got %s, want %s with a visible outline", got, id)
			}
		}
		p.Do(chromedp.KeyEvent(kb.Enter))
		p.Until("the end", title("The download was cancelled"))
		if got := browser.Eval[string](p, `document.activeElement.id`); got != "title" {
			t.Errorf("the focus went to %q, want the heading", got)
		}
		p.Do(chromedp.Reload())
		p.Until("the page", `typeof page !== "undefined" && view.phase === "idle" && page.path.value === "reports/2026.pdf"`)

		copying(t, a, p) // while the file, of which the page hasn't heard, is ready: it is deleted
		a.set(func() {
			a.answer = func(r *http.Request) (int, any) {
				if r.Method == http.MethodDelete {
					return http.StatusOK, event{"status": "DELETED"}
				}
				return 0, nil
			}
		})
		p.Click("cancel")
		browser.Within(t, "the request", func() bool { return a.count("DELETE ") == 2 })
		a.say(failed("EXPIRED", "the file is no longer kept"))
		p.Until("the end", title("The download was cancelled"))

		copying(t, a, p)
		a.set(func() {
			a.answer = func(r *http.Request) (int, any) {
				if r.Method != http.MethodDelete {
					return 0, nil
				}
				return http.StatusConflict, event{"error": event{"code": "CONFLICT", "message": "the download has ended"}}
			}
		})
		p.Click("cancel")
		p.Until("the refusal", `view.phase === "copying"`, `page.note.checkVisibility()`,
			`page.note.textContent === "Not cancelled: the download has ended"`, `page.live.textContent.includes("Not cancelled")`)
		a.ready("2026.pdf")
		p.Until("the link", title("Ready: 2026.pdf"), `page.note.textContent.includes("Nothing was saved")`)
		time.Sleep(time.Second)
		if got := p.Files(); len(got) != 0 {
			t.Errorf("saved after Cancel: %q", got)
		}
		p.Click("save")
		p.Saved("2026.pdf", contentSum())
		p.Quiet("network")
	})

	t.Run("reload", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a)
		copying(t, a, p)
		p.Do(chromedp.Reload())
		p.Until("progress after the reload", `typeof page !== "undefined" && page.progress.value === 0.3 && page.path.value === "reports/2026.pdf"`)
		a.ready("2026.pdf")
		p.Saved("2026.pdf", contentSum())
		p.Do(chromedp.Reload()) // after the end: no second download, but a link
		p.Until("the link", `typeof page !== "undefined" && page.title.textContent === "Ready: 2026.pdf"`)
		time.Sleep(1100 * time.Millisecond) // which may be all that was left of it
		if got := p.Files(); len(got) != 0 {
			t.Errorf("saved again: %q", got)
		}
		a.ready("fresh.pdf")
		p.Click("save")
		p.Saved("fresh.pdf", contentSum())
		if got := a.count("GET /download/"); got != 1 {
			t.Errorf("got %d requests for the file, want one", got)
		}
		if kept := kept(p); !strings.Contains(kept, "executionArn") || strings.Contains(kept, "X-Amz-") {
			t.Errorf("kept: %s", kept)
		}
		p.Quiet()
	})

	t.Run("storage is blocked", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a, `Object.defineProperty(window, "sessionStorage", {get() { throw new DOMException("denied", "SecurityError") }})`)
		a.ready("2026.pdf")
		p.Enter("reports/2026.pdf")
		p.Saved("2026.pdf", contentSum())
		p.Quiet()
	})

	t.Run("links", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := browser.Open(t, chromium, a.url+"/#reports/2026.pdf")
		p.Until("the path", `page.path.value === "reports/2026.pdf" && view.phase === "idle"`)
		p.Go(a.url + "/#reports/2027.pdf?lang=en")
		p.Until("the other path", `page.path.value === "reports/2027.pdf?lang=en"`)
		a.ready("2027.pdf")
		p.Click("start")
		p.Saved("2027.pdf", contentSum())
		if got := a.count("GET /download/reports/2027.pdf?lang=en"); got != 1 {
			t.Errorf("requests: got %q", a.asked())
		}
		p.Clipboard()
		a.ready("2027.pdf")
		time.Sleep(1100 * time.Millisecond)
		p.Click("copy")
		p.Until("the note", `page.note.checkVisibility() && page.note.textContent === "Link copied." && page.live.textContent.includes("Link copied.")`)
		if got := p.Copied(); !strings.HasSuffix(got, "/s3/2027.pdf?X-Amz-Signature=2") {
			t.Errorf("copied: got %q, want the fresh link", got)
		}
		p.Go("about:blank")
		p.Go(a.url + "/#reports/2028.pdf") // another visit in the same tab
		p.Until("the path", `page.path.value === "reports/2028.pdf" && view.phase === "idle"`)
	})

	t.Run("credentials", func(t *testing.T) {
		for _, test := range []struct{ auth, label, header, want string }{
			{"JWT", "Access token", "Authorization", "Bearer secret"},
			{"API_KEY", "API key", "X-Api-Key", "secret"},
		} {
			a := newAPI(t, test.auth)
			p := open(t, a, fast)
			a.set(func() {
				a.noSockets = true // so that it polls
				a.answer = func(r *http.Request) (int, any) {
					if r.Header.Get(test.header) != test.want {
						return http.StatusUnauthorized, event{"message": "Unauthorized"}
					}
					return 0, nil
				}
			})
			if !browser.Eval[bool](p, `page.secret.checkVisibility() && page.credentialLabel.textContent === "`+test.label+`"`) {
				t.Errorf("%s: the page doesn't ask", test.auth)
			}
			secret := func(value string) {
				p.JS(`page.secret.select()`)
				p.Do(chromedp.SendKeys("#secret", kb.Backspace+value))
			}
			p.Enter("reports/2026.pdf")
			if got := a.count("GET /download/"); got != 0 {
				t.Errorf("%s: asked without credentials", test.auth)
			}
			secret("wrong")
			p.Enter("reports/2026.pdf")
			p.Until("the refusal", `page.advice.textContent.includes("valid for this service") && page.message.textContent.startsWith("UNAUTHORIZED")`)
			secret(test.want) // as people paste it, with or without the scheme
			p.Click("again")
			p.Until("progress", `view.phase === "copying" && view.line === "polling"`)
			if kept := kept(p); strings.Contains(kept, "secret") {
				t.Errorf("%s: kept: %s", test.auth, kept)
			}
			p.Do(chromedp.Reload())
			p.Until("the page", `typeof page !== "undefined" && view.phase === "locked" && page.path.value === "reports/2026.pdf" && page.secret.value === ""`)
			secret("secret")
			a.ready("2026.pdf")
			p.Click("start")
			p.Saved("2026.pdf", contentSum())
			if got := a.count("GET /download/"); got != 2 {
				t.Errorf("%s: got %d requests for the file, want two, the first with the wrong credentials", test.auth, got)
			}
		}
		a := newAPI(t, "IAM")
		p := open(t, a)
		if !browser.Eval[bool](p, `page.unsigned.checkVisibility() && !page.form.checkVisibility()`) {
			t.Error("IAM: the page doesn't say that it can't sign")
		}
	})

	t.Run("accessibility", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a)
		p.Do(chromedp.EmulateViewport(320, 256)) // 1280 by 1024 at 400 %
		p.Emulate("prefers-color-scheme", "light")
		onScreen := func(state string) {
			t.Helper()
			if got := browser.Eval[bool](p, `(({top, bottom}) => 0 <= top && bottom <= innerHeight)(page.title.getBoundingClientRect())`); !got {
				t.Errorf("%s: the heading is not on the screen", state)
			}
		}
		controls := func(state string, want ...string) {
			t.Helper()
			want = append(want, "button: Download", "textbox: Path on the file server, such as reports/2026.pdf")
			slices.Sort(want)
			if got := p.Controls(); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", state, got, want)
			}
		}
		p.Accessible("idle")
		a.say(event{"type": "progress", "bytesCopied": 0, "bytesTotal": nil})
		p.Enter("reports/" + strings.Repeat("without-a-place-to-break", 6))
		p.Until("the wait", title("Waiting for the file server…"))
		onScreen("waiting")
		p.Accessible("waiting")
		a.say(progress(3e6, 10e6))
		p.Until("progress", `page.progress.value === 0.3`)
		onScreen("copying")
		p.Accessible("copying")
		controls("copying", "button: Cancel", "progressbar: Copied")
		p.Emulate("forced-colors", "active")
		if got := browser.Eval[[]string](p, `[page.start, page.cancel].map((e) => getComputedStyle(e).color)`); got[0] == got[1] {
			t.Errorf("forced colors: a disabled button is as %s as others", got[0])
		}
		for _, line := range []string{"polling", "lost", "offline"} {
			p.JS(`show({line: "` + line + `"})`)
			p.Accessible(line)
		}
		p.JS(`show({line: "live", note: "Not cancelled: the API can’t be reached"})`)
		if !browser.Eval[bool](p, `(({top, bottom}) => 0 <= top && bottom <= innerHeight)(page.note.getBoundingClientRect())`) {
			t.Error("what wasn't cancelled is not on the screen")
		}
		p.Accessible("not cancelled")
		p.JS(`show({phase: "cancelling", note: ""})`)
		p.Accessible("cancelling")
		p.JS(`show({phase: "copying"})`)
		a.ready("2026.pdf")
		p.Saved("2026.pdf", contentSum())
		p.Until("the link", title("Ready: 2026.pdf"))
		onScreen("ready")
		p.Accessible("ready")
		controls("ready", "button: Copy link", "link: Save the file")
		a.say(failed("ORIGIN_STATUS", "the origin answered 404 Not Found"))
		p.Enter("missing.pdf")
		p.Until("the failure", title("The download failed"))
		onScreen("failed")
		p.Accessible("failed")
		controls("failed", "button: Try again")
		p.JS(`show({phase: "cancelled"})`)
		p.Accessible("cancelled")
		for _, auth := range []string{"JWT", "API_KEY", "IAM"} {
			a := newAPI(t, auth)
			p := open(t, a)
			p.Do(chromedp.EmulateViewport(320, 256))
			p.Accessible(auth)
			p.JS(`show({phase: "locked"})`)
			p.Accessible(auth + ", locked")
		}
	})

	t.Run("policy", func(t *testing.T) {
		a := newAPI(t, "NONE")
		p := open(t, a)
		p.JS(`document.body.append(Object.assign(document.createElement("script"), {textContent: "window.intruder = true"}))`)
		p.JS(`document.body.setAttribute("onclick", "window.intruder = true"), document.body.click()`)
		if browser.Eval[bool](p, `window.intruder === true`) {
			t.Error("a script that isn't the page's ran")
		}
		other := newAPI(t, "NONE")
		p.JS(`fetch("` + other.url + `/download/x", {mode: "no-cors"}).catch(() => window.refused = true)`)
		p.Until("the refusal", `window.refused === true`)
		if got := other.asked(); len(got) != 0 {
			t.Errorf("the page reached another host: %q", got)
		}
		if got := strings.Join(p.Console(), "\n"); !strings.Contains(got, "script-src-elem") || !strings.Contains(got, "connect-src") {
			t.Errorf("violations: got %q", got)
		}
	})

	t.Run("client.js in a page of another origin", func(t *testing.T) {
		a := newAPI(t, "JWT")
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, `<!doctype html><title>app</title><script type="module">
				import { cancel, download, DownloadError, follow } from "%[1]s/client.js"
				window.seen = []
				window.cancel = () => cancel(job, {headers}).then(() => "cancelled", (e) => e.code)
				const report = {onProgress: (p) => seen.push(p), onConnection: (c) => seen.push(c), onStart: (j) => window.job = j}
				window.start = (path, options) => download("%[1]s/", path, {headers, ...report, ...options})
					.then((f) => window.file = f, (e) => window.error = [e instanceof DownloadError, e.name, e.code, e.message, e.retryable].join())
				window.again = () => follow(job, {headers}).then((f) => f.fileName)
				const headers = {Authorization: "Bearer secret"}
			</script>`, a.url)
		}))
		defer app.Close()
		a.origins = "https://elsewhere.example," + app.URL
		p := browser.Open(t, chromium, app.URL)
		p.Until("the module", `"start" in window`)
		a.say(progress(3e6, 10e6))
		p.JS(`start("reports/2026.pdf", {idempotencyKey: "0123456789abcdef"}), null`)
		p.Until("progress", `seen.length >= 2 && !!window.job`)
		if got := browser.Eval[string](p, `JSON.stringify(seen)`); got != `["live",{"bytesCopied":3000000,"bytesTotal":10000000}]` {
			t.Errorf("seen: got %s", got)
		}
		a.ready("2026.pdf")
		p.Until("the link", `!!window.file && file.fileName === "2026.pdf" && file.verified === true && file.size === `+fmt.Sprint(len(content)))
		p.JS(`location.assign(file.url)`)
		p.Saved("2026.pdf", contentSum())
		p.JS(`again().then((name) => window.name = name), null`)
		p.Until("a fresh link", `window.name === "2026.pdf"`)
		for header, want := range map[string]string{"Authorization": "Bearer secret", "Idempotency-Key": "0123456789abcdef", "Origin": app.URL} {
			if got := a.header("/download/", header); len(got) != 1 || got[0] != want {
				t.Errorf("%s: got %q, want %q", header, got, want)
			}
		}
		a.say(progress(4e6, 10e6))
		p.JS(`delete window.job, start("other.bin"), null`)
		p.Until("the job", `!!window.job`)
		p.JS(`cancel(), null`)
		p.Until("the end", `window.error === "true,DownloadError,CANCELLED,the download was cancelled,false"`)
		if got := a.header("/executions/", "Authorization"); got[len(got)-1] != "Bearer secret" {
			t.Errorf("cancel: Authorization: got %q", got)
		}
		a.say(progress(4e6, 10e6))
		p.JS(`{ const c = new AbortController(); window.stop = () => c.abort(new Error("enough")); delete window.job; start("other.bin", {signal: c.signal}) }`)
		p.Until("the job", `!!window.job`)
		p.JS(`stop()`)
		p.Until("the signal's reason", `window.error === "false,Error,,enough,"`)
		p.Quiet("network") // a socket that the signal closed early

		a.set(func() { a.origins = "https://elsewhere.example" })
		p = browser.Open(t, chromium, app.URL)
		p.Until("the refusal", `document.readyState === "complete"`)
		if browser.Eval[bool](p, `"start" in window`) || !strings.Contains(strings.Join(p.Console(), "\n"), "CORS") {
			t.Errorf("a page that isn't allowed: got %q", p.Console())
		}
	})

	if os.Getenv("UPDATE_SCREENSHOTS") != "" {
		t.Run("screenshots", func(t *testing.T) { screenshots(t, chromium) })
	}
}

// screenshots draws docs/page.png: the page while it copies, light and wide, and
// when the file is there, dark and narrow.
func screenshots(t *testing.T, chromium context.Context) {
	shoot := func(scheme string, width int64, use func(*fakeAPI, *browser.Tab)) image.Image {
		a := newAPI(t, "NONE")
		p := browser.Open(t, chromium, a.url+"/")
		p.Emulate("prefers-color-scheme", scheme)
		p.Do(chromedp.EmulateViewport(width, 720, chromedp.EmulateScale(2)))
		use(a, p)
		time.Sleep(time.Second) // the bar moves
		return p.Screenshot()
	}
	wide := shoot("light", 700, func(a *fakeAPI, p *browser.Tab) {
		p.JS(`{ window.time = Date.now(); Date.now = () => time }`)
		a.say(progress(0, 67108864))
		p.Enter("reports/report-2026.pdf?lang=en")
		p.Until("the socket", `view.total !== null`)
		for second := 1; second <= 7; second++ {
			p.JS(`time += 1000`)
			a.say(progress(second*5_400_000, 67108864))
			p.Until("progress", fmt.Sprintf(`view.copied === %d`, second*5_400_000))
		}
	})
	narrow := shoot("dark", 360, func(a *fakeAPI, p *browser.Tab) {
		a.ready("report-2026.pdf")
		p.Enter("reports/report-2026.pdf")
		p.Saved("report-2026.pdf", contentSum())
	})
	const gap = 32
	picture := image.NewRGBA(image.Rect(0, 0, wide.Bounds().Dx()+gap+narrow.Bounds().Dx(), wide.Bounds().Dy()))
	draw.Draw(picture, picture.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.Draw(picture, wide.Bounds(), wide, image.Point{}, draw.Src)
	draw.Draw(picture, narrow.Bounds().Add(image.Pt(wide.Bounds().Dx()+gap, 0)), narrow, image.Point{}, draw.Src)
	out, err := os.Create("../../docs/page.png")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(out, picture); err != nil {
		t.Fatal(err)
	}
}
