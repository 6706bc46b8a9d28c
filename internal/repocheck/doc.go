// Package repocheck has tests of the repository itself: which package imports which, and that the documents speak of
// what is there.
package repocheck
