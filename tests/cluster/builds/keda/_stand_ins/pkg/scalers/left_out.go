// Package scalers: what is left of the file of a trigger that the tests' KEDA leaves out.
package scalers

const externalMetricType = "External"
