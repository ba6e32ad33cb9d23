import Foundation
import KeelCore
import KeelGraph
import Testing

@testable import KeelNN

@Suite struct BatchNormTests {
  @Test func trainingNormalizesAndMovesTheStatistics() throws {
    #expect(
      try printed(Sequential { BatchNorm(3) }, [5, 3], mode: .training) == """
        graph test {
          %0 = x{data} : f32[5, 3]
          %1 = layers.0.scale{parameter} : f32[3]  // layers.0
          %2 = layers.0.shift{parameter} : f32[3]  // layers.0
          %3:4 = batchNormTraining{axis 1, epsilon 1e-05}(%0, %1, %2) : f32[5, 3], f32[3], f32[3], f32[3]  // layers.0
          %4 = layers.0.runningMean{runningStatistic} : f32[3]  // layers.0
          %5 = layers.0.runningVariance{runningStatistic} : f32[3]  // layers.0
          %6 = layers.0.batchesTracked{runningStatistic} : f32[3]  // layers.0
          %7:3 = batchNormRunningUpdate{weight 0.1, varianceFactor 1.25}(%4, %5, %6, %3.1, %3.2, %3.3) : f32[3], f32[3], f32[3]  // layers.0
          update "layers.0.runningMean" <- %7.0
          update "layers.0.runningVariance" <- %7.1
          update "layers.0.batchesTracked" <- %7.2
          output y = %3.0
        }
        """)
  }

  @Test func evaluationUsesTheStatistics() throws {
    #expect(
      try printed(BatchNorm(3), [5, 3]) == """
        graph test {
          %0 = x{data} : f32[5, 3]
          %1 = runningVariance{runningStatistic} : f32[3]
          %2 = constant{1e-05} : f32[]
          %3 = add(%1, %2) : f32[3]
          %4 = scale{parameter} : f32[3]
          %5 = squareRoot(%3) : f32[3]
          %6 = divide(%4, %5) : f32[3]
          %7 = runningMean{runningStatistic} : f32[3]
          %8 = reshape(%7) : f32[1, 3]
          %9 = subtract(%0, %8) : f32[5, 3]
          %10 = reshape(%6) : f32[1, 3]
          %11 = multiply(%9, %10) : f32[5, 3]
          %12 = shift{parameter} : f32[3]
          %13 = reshape(%12) : f32[1, 3]
          %14 = add(%11, %13) : f32[5, 3]
          output y = %14
        }
        """)
  }

  /// Two channels on axis 1 of [2, 2, 2], by hand: channel 0 has 1 2 5 6, channel 1 has 3 4 7 8.
  @Test func givesTheNumbersOfTheFormulas() throws {
    for (variance, factor) in [(BatchNorm.RunningVariance.unbiased, 4.0 / 3), (.biased, 1)] {
      let layer = BatchNorm(2, axis: 1, epsilon: 0.25, momentum: .old(0.75), runningVariance: variance)
      let model = Model(layer)
      try model.initialize(seed: 1, dtype: .float64)
      layer.scale?.value = try HostTensor([2], [2.0, 3])
      layer.shift?.value = try HostTensor([2], [0.5, -1])
      let x: [Double] = [1, 2, 3, 4, 5, 6, 7, 8]
      // μ = 3.5 and 5.5, σ² = 4.25 for both.
      let rstd = 1 / (4.25 + 0.25).squareRoot()
      let trained = try run(model, [2, 2, 2], x, mode: .training)
      let expected = [-2.5, -1.5, -2.5, -1.5, 1.5, 2.5, 1.5, 2.5].enumerated().map {
        ($0.offset / 2) % 2 == 0 ? 2 * $0.element * rstd + 0.5 : 3 * $0.element * rstd - 1
      }
      #expect(isClose(trained.outputs["y"], expected))
      #expect(isClose(trained.variables["runningMean"], [3.5 / 4, 5.5 / 4]))
      #expect(isClose(trained.variables["runningVariance"], [0.75 + 4.25 * factor / 4, 0.75 + 4.25 * factor / 4]))

      layer.runningMean?.value = try HostTensor([2], [1.0, 2])
      layer.runningVariance?.value = try HostTensor([2], [3.75, 0.75])
      let evaluated = try run(model, [2, 2, 2], x)
      #expect(isClose(evaluated.outputs["y"], [0.5, 1.5, 2, 5, 4.5, 5.5, 14, 17]))
      #expect(evaluated.variables.isEmpty)
    }
  }

  @Test func scaleAndShiftAreSeparate() throws {
    for (scale, shift) in [(true, false), (false, true), (false, false)] {
      let layer = BatchNorm(2, scale: scale, shift: shift)
      let model = Model(layer)
      #expect(model.parameters.map(\.path) == (scale ? ["scale"] : []) + (shift ? ["shift"] : []))
      try model.initialize(seed: 1, dtype: .float64)
      layer.scale?.value = try HostTensor([2], [2.0, 2])
      layer.shift?.value = try HostTensor([2], [1.0, 1])
      let (gain, offset) = (scale ? 2.0 : 1, shift ? 1.0 : 0)
      let rstd = 1 / (1 + 1e-5).squareRoot()
      let x: [Double] = [-1, 1, 1, -1]
      for mode in [Mode.training, .evaluation] {
        let y = try run(model, [2, 2], x, mode: mode).outputs["y"]
        #expect(isClose(y, x.map { $0 * gain * rstd + offset }), "\(mode), scale \(scale), shift \(shift)")
      }
    }
  }

  @Test func withoutStatisticsEvaluationUsesTheBatch() throws {
    let layer = BatchNorm(2, tracksRunningStatistics: false)
    #expect(Model(layer).runningStatistics.isEmpty)
    #expect(try printed(layer, [4, 2], mode: .evaluation).contains("batchNormTraining"))
    #expect(try graph(of: layer, [4, 2], mode: .training).updates.isEmpty)
  }

  @Test func takesAnyAxis() throws {
    for (axis, resolved) in [(-1, 3), (1, 1), (-2, 2), (0, 0)] {
      let text = try printed(BatchNorm(4, axis: axis), [4, 4, 4, 4], mode: .training)
      #expect(text.contains("batchNormTraining{axis \(resolved), "))
    }
    #expect(try printed(BatchNorm(3, axis: 1), [5, 3, 2]).contains("subtract(%0, %8) : f32[5, 3, 2]"))
    #expect(traceError(BatchNorm(3), [3]) == nil)
  }

  @Test func namesWhatIsWrong() {
    func error(_ layer: BatchNorm, _ shape: Shape = [4, 3], _ mode: Mode = .training) -> String? {
      traceError(Sequential([layer]), shape, mode: mode)
    }
    #expect(error(BatchNorm(32), [64, 16]) == "[batchNorm] layers.0: expects 32 channels on axis 1, got [64, 16]")
    #expect(error(BatchNorm(3, axis: 2)) == "[batchNorm] layers.0: expects 3 channels on axis 2, got [4, 3]")
    #expect(error(BatchNorm(3, epsilon: 0)) == "[batchNorm] layers.0: expects epsilon > 0, got 0.0")
    #expect(error(BatchNorm(3, epsilon: .nan)) == "[batchNorm] layers.0: expects epsilon > 0, got nan")
    #expect(error(BatchNorm(3, epsilon: 1e-50))?.contains("in f32, got 1e-50") == true)
    #expect(traceError(BatchNorm(3, epsilon: 1e-50), [4, 3], dtype: .float64) == nil)
    #expect(
      error(BatchNorm(3, momentum: .old(1.5))) == "[batchNorm] layers.0: expects a momentum .old in 0…1, got 1.5")
    #expect(
      error(BatchNorm(3, momentum: .new(.nan))) == "[batchNorm] layers.0: expects a momentum .new in 0…1, got nan")
    #expect(error(BatchNorm(0), [4, 0]) == "[batchNorm] layers.0: expects positive extents, got [0]")
    #expect(
      error(BatchNorm(3), [1, 3])?.hasPrefix(
        "[batchNormTraining] layers.0: training expects more than one value per channel, got [1, 3]") == true)
    #expect(error(BatchNorm(3), [1, 3], .evaluation) == nil)
  }

  @Test func momentumConvertsExactly() {
    #expect(BatchNorm.Momentum.new(0.1).newWeight == 0.1)
    #expect(BatchNorm.Momentum.old(0.75).newWeight == 0.25)
    #expect(BatchNorm.Momentum.old(1).newWeight == 0)
    #expect(BatchNorm.Momentum.old(0).newWeight == 1)
    for weight in stride(from: 0.5, through: 1, by: 0.0137) + [0.9, 0.99, 0.999] {
      // In exact arithmetic, so a fused operation must find no remainder.
      let converted = BatchNorm.Momentum.old(weight).newWeight ?? .nan
      #expect((-1.0).addingProduct(1, weight) + converted == 0)
      #expect(1 - converted == weight)
    }
    #expect(BatchNorm.Momentum.old(0.99).newWeight.map { Float($0) } == 0.01)
    #expect(BatchNorm.Momentum.cumulative.newWeight == nil)
  }

  @Test func cumulativeStatisticsAreAveragesOverAllBatches() throws {
    let norm = BatchNorm(2, momentum: .cumulative, runningVariance: .biased)
    let model = Model(norm)
    try model.initialize(seed: 0, dtype: .float64)
    let batches: [[Double]] = [[1e-9, 4, 3e-9, 8], [5, 1, 7, 3], [-2, 0, 2, 6]]
    var (means, variances): ([[Double]], [[Double]]) = ([], [])
    for (index, batch) in batches.enumerated() {
      let mean = [(batch[0] + batch[2]) / 2, (batch[1] + batch[3]) / 2]
      means.append(mean)
      // Of two values: the square of half their distance.
      variances.append([pow((batch[0] - batch[2]) / 2, 2), pow((batch[1] - batch[3]) / 2, 2)])
      let moved = try run(model, [2, 2], batch, mode: .training).variables
      for statistic in model.runningStatistics {
        let values = try #require(moved[statistic.path])
        statistic.value = try HostTensor(TensorType([2], .float64), values: values)
      }
      let count = Double(index + 1)
      #expect(norm.batchesTracked?.value?.doubles == [count, count])
      func average(_ rows: [[Double]]) -> [Double] { (0..<2).map { c in rows.reduce(0) { $0 + $1[c] } / count } }
      #expect(isClose(moved["runningMean"], average(means)))
      #expect(isClose(moved["runningVariance"], average(variances)))
    }
    norm.resetRunningStatistics()
    #expect(norm.batchesTracked?.value?.doubles == [0, 0])
    #expect(BatchNorm(2, tracksRunningStatistics: false).batchesTracked == nil)
  }

  @Test func batchWithoutValuesIsGivenBack() throws {
    for mode in [Mode.training, .evaluation] {
      let graph = try graph(of: BatchNorm(3), [0, 3], mode: mode)
      #expect(graph.updates.isEmpty && graph.outputs.map { graph.type(of: $0.value).shape } == [[0, 3]])
    }
    #expect(
      traceError(BatchNorm(3), [0, 4], mode: .training) == "[batchNorm] expects 3 channels on axis 1, got [0, 4]")
  }

  @Test func presetsAreThoseOfTheSystems() {
    func options(_ layer: BatchNorm) -> BatchNorm.Options { layer.options }
    #expect(options(BatchNorm(8, convention: .pytorch)) == options(BatchNorm(8)))
    #expect(
      options(BatchNorm(8, convention: .keras))
        == options(BatchNorm(8, epsilon: 1e-3, momentum: .old(0.99), runningVariance: .biased)))
    #expect(
      options(BatchNorm(8, axis: 1, convention: .onnx, shift: false))
        == options(BatchNorm(8, axis: 1, momentum: .old(0.9), runningVariance: .biased, shift: false)))
  }

  @Test func secondCallInOneTrainingStepIsAnError() {
    struct Twice: Layer {
      let norm = BatchNorm(3)
      func callAsFunction(_ x: Tensor) -> Tensor { norm(norm(x)) }
    }
    #expect(
      traceError(Twice(), [4, 3], mode: .training)
        == "[runningStatistic] norm: expects one update of norm.runningMean a step, got a second: "
        + "the layer is called twice in training")
    #expect(traceError(Twice(), [4, 3]) == nil)
  }
}

private func isClose(_ values: [Double]?, _ expected: [Double]) -> Bool {
  guard let values, values.count == expected.count else { return false }
  return zip(values, expected).allSatisfy { abs($0 - $1) <= 1e-12 * max(1, abs($1)) }
}
