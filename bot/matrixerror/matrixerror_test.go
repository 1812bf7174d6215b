package matrixerror

import (
	"net/http"
	"testing"
	"time"
)

func TestError(t *testing.T) {
	r := New(&http.Response{StatusCode: 429}, []byte(`{"errcode":"M_LIMIT_EXCEEDED","error":"x","retry_after_ms":2500}`))
	if r.RetryAfter != 2500*time.Millisecond || r.Error() != "HTTP status 429, M_LIMIT_EXCEEDED" {
		t.Errorf("got %+v, %v", r, r)
	}
	r = New(&http.Response{StatusCode: 400}, []byte(`{"errcode":"M_UNKNOWN","org.matrix.msc4140.errcode":"M_MAX_DELAY_EXCEEDED","org.matrix.msc4140.max_delay":9000}`))
	if !IsDelayTooLong(r) || r.MaxDelay != 9*time.Second {
		t.Errorf("got %+v", r)
	}
	r = New(&http.Response{StatusCode: 500}, []byte(`{"errcode":"M_X\nforged log line","retry_after_ms":1e300}`))
	if r.Code != "" || r.RetryAfter != 0 {
		t.Errorf("got %+v", r)
	}
}
