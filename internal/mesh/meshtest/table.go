package meshtest

import (
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"text/tabwriter"
)

// row is a line of the table that `make mesh` prints.
type row struct {
	plane, way, side string
	budget           Budget
	threshold        int
}

var (
	mu   sync.Mutex
	rows []row
)

// Row puts a line into the table of the test process: which control plane delivered the filters in which way to which side
// of a proxy, and what became of the load.
func Row(plane, way, side string, b Budget, threshold int) {
	mu.Lock()
	defer mu.Unlock()
	rows = append(rows, row{plane, way, side, b, threshold})
}

// Run runs the tests of a package, and prints the table. The result is for os.Exit.
func Run(m *testing.M) int {
	code := m.Run()
	print(os.Stdout)
	return code
}

func print(w io.Writer) {
	if len(rows) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\ncontrol plane\tdelivered by\tside\toffered/s\tadmitted/s: HTTP\tTCP\tmost in a window\tone budget")
	for _, r := range rows {
		one := "yes"
		if r.budget.Most > r.threshold {
			one = "no"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%.0f\t%.0f\t%d of %d\t%s\n", r.plane, r.way, r.side, r.budget.Offered,
			r.budget.HTTP, r.budget.TCP, r.budget.Most, r.threshold, one)
	}
	t.Flush()
}
