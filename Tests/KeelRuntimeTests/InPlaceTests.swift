import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime
import Testing

/// Kernels that change an operand where it lies, in graphs that want the old value kept; and stores whose buffers move.
@Suite(.serialized) @MainActor struct InPlaceTests {
  private let options = Executable.Options()

  /// A store with these variables.
  private func store(_ graph: Graph, _ values: [String: [Double]], _ context: ComputeContext) throws -> VariableStore {
    let store = VariableStore(context)
    try store.declare(graph.inputs.map { Variable($0.input.label, $0.type, $0.input.role) })
    for (_, input, type) in graph.inputs {
      try store.write(input.label, HostTensor(type, values: values[input.label] ?? []))
    }
    return store
  }

  /// Runs a graph on every device and holds outputs and variables against the interpreter.
  private func agrees(_ graph: Graph, _ values: [String: [Double]]) throws {
    let reference = try Interpreter(graph).run(values)
    for context in Devices.contexts {
      let store = try store(graph, values, context)
      let executable = try Executable(graph, variables: store, options: options)
      try executable.run()
      for (name, expected) in reference.outputs {
        let got = try executable.output(name).doubles
        #expect(zip(got, expected).allSatisfy { abs($0 - $1) < 1e-6 }, "\(name): \(got), expected \(expected)")
      }
      for (_, input, _) in graph.inputs {
        let expected = try #require(reference.variables[input.label] ?? values[input.label])
        let got = try store.read(input.label).doubles
        #expect(zip(got, expected).allSatisfy { abs($0 - $1) < 1e-6 }, "\(input.label): \(got), expected \(expected)")
      }
    }
  }

  /// One step of SGD with momentum on two parameters; `finish` adds what else reads them.
  private func step(_ finish: (GraphBuilder, [Tensor], [Tensor]) -> Void) throws -> Graph {
    let builder = GraphBuilder()
    let cursor = builder.input("cursor", Cursor.type, role: .control)
    let rates = builder.input("rates", TensorType([1]), role: .control)
    let weights = [
      builder.input("w", TensorType([2]), role: .parameter), builder.input("v", TensorType([3]), role: .parameter),
    ]
    let gradients = weights.map { $0 * 0.5 }
    let slots = weights.enumerated().map {
      builder.input("slot\($0.offset)", $0.element.type, role: .optimizerSlot)
    }
    let rule = OptimizerStep(.sgd(momentum: 0.9, nesterov: false, weightDecay: 0), count: 2)
    let moved = builder.append(.optimizerStep(rule), [rates, cursor] + weights + gradients + slots)
    finish(builder, weights + slots, moved)
    return try builder.graph()
  }

  private let values: [String: [Double]] = [
    "cursor": [0, 0, 3], "rates": [0.1], "w": [1, 2], "v": [3, 4, 5], "slot0": [1, 1], "slot1": [0, 1, 2],
  ]

  @Test func outputOfAParameterIsTheOldValue() throws {
    try agrees(
      step { builder, old, new in
        for (a, b) in zip(old, new) { builder.update(a, with: b) }
        builder.output("before", old[0])
      }, values)
  }

  @Test func parameterReadAfterTheStep() throws {
    try agrees(
      step { builder, old, new in
        for (a, b) in zip(old, new) { builder.update(a, with: b) }
        builder.output("norm", (old[1] * old[1]).sum())
      }, values)
  }

  @Test func stepWithoutUpdateChangesNothing() throws {
    try agrees(step { builder, _, new in builder.output("moved", new[0]) }, values)
  }

  @Test func historyShownBesideItsUpdate() throws {
    let builder = GraphBuilder()
    let cursor = builder.input("cursor", Cursor.type, role: .control)
    let history = builder.input("history", TensorType([3, 1]), role: .control)
    builder.update(history, with: builder.append(.record(Record(rows: 1)), [history, cursor, builder.constant(6)])[0])
    builder.output("before", history)
    try agrees(builder.graph(), ["cursor": [0, 1, 1], "history": [7, 8, 9]])
  }

  private func plusOne() throws -> Graph {
    let builder = GraphBuilder()
    builder.output("y", builder.input("x", TensorType([2])) + 1.0)
    return try builder.graph()
  }

  @Test func declaringTheSameTypeAgainKeepsTheBuffer() throws {
    let graph = try plusOne()
    for context in Devices.contexts {
      let store = try store(graph, ["x": [1, 2]], context)
      let executable = try Executable(graph, variables: store, options: options)
      try store.declare([Variable("x", TensorType([2]), .data)])
      try store.write("x", HostTensor([2], [Float(10), 20]))
      try executable.run()
      #expect(try executable.output("y").doubles == [11, 21])
    }
  }

  @Test func replacedVariableStopsItsExecutables() throws {
    let graph = try plusOne()
    for context in Devices.contexts {
      let store = try store(graph, ["x": [1, 2]], context)
      let executable = try Executable(graph, variables: store, options: options)
      try store.declare([Variable("other", TensorType([2]), .data)])
      try executable.run()
      try store.declare([Variable("x", TensorType([3]), .data)])
      for _ in 0..<2 { #expect(throws: ExecutableError.self) { try executable.run() } }
    }
  }

  @Test func namesAreDeclaredOnce() throws {
    for context in Devices.contexts {
      let store = VariableStore(context)
      try store.declare([Variable("a", TensorType([2]), .parameter)])
      #expect(throws: VariableStore.Failure.self) { try store.declare([Variable("a", TensorType([2]), .data)]) }
      #expect(throws: VariableStore.Failure.self) { try store.declare([Variable("b", TensorType([2]), .parameter)]) }
      #expect(throws: VariableStore.Failure.self) { try store.declare([Variable("c", TensorType([0, 4]), .data)]) }
    }
  }

  /// A body that throws leaves the state as it was.
  @Test func stateIsPreservedThroughAnError() throws {
    struct Stop: Error {}
    for context in Devices.contexts {
      let store = VariableStore(context)
      try store.declare([Variable("a", TensorType([2]), .parameter)])
      try store.write("a", HostTensor([2], [Float(1), 2]))
      #expect(throws: Stop.self) {
        try store.preservingState {
          try store.write("a", HostTensor([2], [Float(3), 4]))
          throw Stop()
        }
      }
      #expect(try store.read("a").doubles == [1, 2])
    }
  }

  /// A channel whose values are all the same is β, whatever the value and the variant.
  @Test(arguments: ["fused", "columns", "groups", "naive"]) func constantChannelsOfAnySize(_ variant: String) throws {
    for value: Double in [0, 1e-30, 1, 1e22, 1e30, 2e35, 1e38, -3e38] {
      for rows in [2, 7, 33, 130] {
        let builder = GraphBuilder(mode: .training)
        let results = builder.append(
          .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-5)),
          [
            builder.input("x", TensorType([rows, 3])), builder.input("scale", TensorType([3])),
            builder.input("shift", TensorType([3])),
          ])
        builder.output("y", results[0])
        builder.output("variance", results[3])
        let graph = try builder.graph()
        for context in Devices.contexts where context.profile.isCPU || variant == "naive" {
          var options = options
          options.variants = [BatchNormForwardProblem.family: variant]
          let store = try store(
            graph, ["x": Array(repeating: value, count: rows * 3), "scale": [2, 3, 4], "shift": [-1, 0.5, 7]], context)
          let executable = try Executable(graph, variables: store, options: options)
          try executable.run()
          let expected = (0..<rows).flatMap { _ -> [Double] in [-1, 0.5, 7] }
          #expect(try executable.output("y").doubles == expected, "\(value), \(rows) rows")
          #expect(try executable.output("variance").doubles == [0, 0, 0], "\(value), \(rows) rows")
        }
      }
    }
  }
}
