import KeelCL
import KeelCore
import KeelGraph
import KeelNN
import KeelPrimitives
import KeelRuntime
import Testing

extension TrainingTests {
  /// Batch norm of values in 16 bits: its statistics are float32.
  @Suite struct StoredBatchNorm {
    /// The layer in a graph of its own; its variables are in the store, x is to be written.
    private func executable(
      _ layer: BatchNorm, _ x: TensorType, _ mode: Mode, on device: Device
    ) throws -> (executable: Executable, store: VariableStore) {
      let model = Model(layer)
      try model.initialize(seed: 1)
      let builder = GraphBuilder(mode: mode)
      let y = model(builder.input("x", x))
      #expect(y.type == x)
      builder.output("y", y)
      let graph = try builder.graph()
      let store = VariableStore(try ComputeContext(device))
      try store.declare(graph.inputs.map { Variable($0.input.label, $0.type, $0.input.role) })
      for (name, value) in model.state where store.type(of: name) != nil { try store.write(name, value) }
      return (try Executable(graph, variables: store, options: Executable.Options()), store)
    }

    /// In its own 16 bits a running mean would stop at 64, where a hundredth of what is missing is less than half a unit
    /// in the last place.
    @Test(arguments: [DType.bfloat16, .float16]) func runningMeanGetsToAHundred(_ dtype: DType) throws {
      let type = TensorType([16, 4], dtype)
      let x = try HostTensor(type, values: (0..<64).map { Double(99 + $0 / 4 % 3) })
      let mean = x.doubles.enumerated().reduce(0.0) { $0 + ($1.offset % 4 == 0 ? $1.element : 0) } / 16
      let (executable, store) = try executable(
        BatchNorm(4, momentum: .new(0.01)), type, .training, on: TrainingTests.device())
      try store.write("x", x)
      for _ in 0..<2000 { try executable.run() }
      let running = try store.read("runningMean")
      #expect(running.dtype == .float32 && abs(mean - 100) < 1)
      for value in running.doubles { #expect(abs(value - mean) < 1e-3) }
      #expect(try store.read("runningVariance").dtype == .float32)
    }

    /// Evaluation computes in float32 and rounds once.
    @Test(arguments: [DType.bfloat16, .float16]) func evaluationRoundsOnce(_ dtype: DType) throws {
      let type = TensorType([3, 2, 5], dtype)
      let x = try HostTensor(type, values: (0..<30).map { Double($0) * 0.37 - 5 })
      let layer = BatchNorm(2, axis: 1)
      let (executable, store) = try executable(layer, type, .evaluation, on: TrainingTests.device())
      try store.write("x", x)
      for (name, values) in [
        ("runningMean", [1.5, -2]), ("runningVariance", [4, 0.25]), ("scale", [2, 3]), ("shift", [0.5, -1]),
      ] { try store.write(name, HostTensor(TensorType([2], .float32), values: values)) }
      try executable.run()
      let expected = x.doubles.enumerated().map { index, value -> Double in
        index / 5 % 2 == 0
          ? (value - 1.5) * 2 / (4 + 1e-5).squareRoot() + 0.5 : (value + 2) * 3 / (0.25 + 1e-5).squareRoot() - 1
      }
      for (got, exact) in zip(try executable.output("y").doubles, expected) {
        #expect(abs(got - exact) <= 0.5001 * dtype.epsilon * max(abs(exact), 1e-3) + 1e-5)
      }
    }
  }
}
