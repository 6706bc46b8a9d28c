// Package dashboard stands between Envoys and Sentinel's dashboard: it reads their admin pages, and speaks to the dashboard as
// Java Sentinel's transport does in a Java process. What the dashboard does, it asks for at a port here: figures, nodes, rules.
// Rules that it sets are written to the source that the filters ask.
package dashboard
