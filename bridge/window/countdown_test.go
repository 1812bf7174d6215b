package window

import "testing"

func TestCountdownRuns(t *testing.T) {
	c := countdown{epoch.Add(testCountdown)}
	if !c.running(c.ends.Add(-1)) || !c.until(epoch).Equal(c.ends) {
		t.Error("it does not run before its end")
	}
	if c.running(c.ends) || !c.until(c.ends).IsZero() {
		t.Error("it runs at its end")
	}
	if DefaultCountdown <= 0 || DefaultCountdown > MaxCountdown {
		t.Errorf("the default of %v is not allowed", DefaultCountdown)
	}
}
