package hub

import (
	"io"
	"net/http"
	"time"
)

const (
	// progressLimit is how long a client may send nothing of a body, or take nothing of an answer.
	progressLimit = 20 * time.Second
	// slowestBody is the rate at which a client must send a body after that, in bytes a second.
	slowestBody = 1 << 10
	// pieceSize is how much of an answer a client must take within progressLimit, in bytes.
	pieceSize = 4 << 10
)

// demandProgress ends requests whose clients send their body, or take their answer, too slowly. Otherwise few clients could keep many connections and
// much memory for as long as they like. It does not limit how long a handler works or waits, and nothing of a connection that a handler takes over.
func demandProgress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Time{}) // the one of the connection's last request
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &progressBody{ReadCloser: r.Body, control: control, begin: time.Now()}
		}
		next.ServeHTTP(&progressWriter{w, control}, r)
		_ = control.SetWriteDeadline(time.Now().Add(progressLimit)) // for what is still buffered
	})
}

// progressBody is a body that must come fast enough. It is read by one goroutine at a time.
type progressBody struct {
	io.ReadCloser
	control *http.ResponseController
	begin   time.Time
	size    int64 // so far
}

// Read implements io.Reader.
func (b *progressBody) Read(p []byte) (int, error) {
	now := time.Now()
	until := b.begin.Add(progressLimit + time.Duration(b.size)*time.Second/slowestBody)
	if next := now.Add(progressLimit); next.Before(until) {
		until = next
	}
	_ = b.control.SetReadDeadline(until)
	n, err := b.ReadCloser.Read(p)
	b.size += int64(n)
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{}) // otherwise net/http would end the request when the deadline passes
	}
	return n, err
}

// progressWriter is a ResponseWriter whose client must take what is written.
type progressWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Unwrap is for http.ResponseController.
func (w *progressWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements io.Writer.
func (w *progressWriter) Write(p []byte) (written int, err error) {
	for {
		_ = w.control.SetWriteDeadline(time.Now().Add(progressLimit))
		n, err := w.ResponseWriter.Write(p[:min(len(p), pieceSize)])
		written += n
		if p = p[n:]; err != nil || len(p) == 0 {
			return written, err
		}
	}
}
