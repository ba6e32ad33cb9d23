import KeelCheck
import KeelCore
import Testing

@Suite struct CaseInputTests {
  @Test func drawsAreTheSameEveryTimeAndRounded() throws {
    let input = CaseInput("x", [64], .normal(offset: 1e4, scale: 1))
    let values = try input.values(.float32, seed: 3, stream: 0)
    #expect(values == (try input.values(.float32, seed: 3, stream: 0)))
    #expect(values != (try input.values(.float32, seed: 4, stream: 0)))
    #expect(values != (try input.values(.float32, seed: 3, stream: 1)))
    #expect(values.type == TensorType([64], .float32))
    // The double-precision case draws the same numbers, not rounded.
    let exact = try input.values(.float64, seed: 3, stream: 0)
    #expect(exact.floats == values.floats && exact.doubles != values.doubles)
  }

  @Test func sourcesKeepToTheirRanges() throws {
    let labels = try CaseInput("l", [500], .integers(-2..<3), dtype: .int32).values(.float64, seed: 1, stream: 0)
    #expect(labels.dtype == .int32 && Set(labels.doubles) == [-2, -1, 0, 1, 2])
    let uniform = try CaseInput("u", [500], .uniform(0.25...0.5)).values(.float32, seed: 1, stream: 0)
    #expect(uniform.doubles.allSatisfy { (0.25...0.5).contains($0) })
    #expect(try CaseInput("v", [5], .values([1, 2])).values(.float32, seed: 1, stream: 0).doubles == [1, 2, 1, 2, 1])
    #expect(
      try CaseInput("i", [3], .indexed { Double($0 * $0) }).values(.float32, seed: 1, stream: 0).doubles == [0, 1, 4])
  }
}
