import KeelCore
import KeelGraph
import Testing

@Suite struct ArenaLayoutTests {
  @Test func offsetsAndSize() {
    let layout = ArenaLayout([("w", f32(3)), ("b", f32(1)), ("v", f64(5))], alignment: 16)
    #expect(layout.offsets == ["w": 0, "b": 16, "v": 32])
    #expect(layout.byteCount == 80)
  }

  @Test func guardsFollowEachTensor() {
    let layout = ArenaLayout([("w", f32(4)), ("b", f32(1))], alignment: 16, guardBytes: 8)
    #expect(layout.offsets == ["w": 0, "b": 32])
    #expect(layout.byteCount == 48)
  }

  @Test func neverEmpty() {
    #expect(ArenaLayout([], alignment: 64).byteCount == 64)
    #expect(ArenaLayout([("none", f32(0))], alignment: 64).byteCount == 64)
  }
}

@Suite struct MemoryPlanTests {
  /// Four functions in a row over 64 bytes.
  private func chain() throws -> Graph {
    try graph { b in (0..<4).reduce(b.input("x", f32(16))) { x, _ in x.elementwise(.tanh) } }
  }

  @Test func aChainNeedsTwoPlaces() throws {
    let plan = MemoryPlan(try chain(), alignment: 64)
    #expect(plan.locations[Value(node: 0)] == .variable("x"))
    #expect(
      (1...4).map { plan.locations[Value(node: $0)] } == [
        .activation(0), .activation(64), .activation(0), .activation(64),
      ])
    #expect(plan.activationByteCount == 128)
    #expect(plan.unsharedByteCount == 256)
    #expect(plan.constantByteCount == 64, "a buffer is never empty")
  }

  @Test func withoutSharingEveryValueHasItsOwnPlace() throws {
    let plan = MemoryPlan(try chain(), alignment: 64, sharesBytes: false)
    #expect((1...4).map { plan.locations[Value(node: $0)] } == [0, 64, 128, 192].map { .activation($0) })
    #expect(plan.activationByteCount == 256 && plan.unsharedByteCount == 256)
  }

  @Test func alignmentAndGuards() throws {
    let graph = try graph { b in b.input("x", f32(3)).elementwise(.tanh).elementwise(.exp) + b.constant([1, 2, 3], [3])
    }
    let tight = MemoryPlan(graph, alignment: 4)
    #expect(tight.activationByteCount == 24 && tight.constantByteCount == 12)
    let wide = MemoryPlan(graph, alignment: 128)
    #expect(wide.locations[Value(node: 2)] == .activation(128))
    #expect(wide.activationByteCount == 140 && wide.constantByteCount == 128)
    let guarded = MemoryPlan(graph, alignment: 4, guardBytes: 8, sharesBytes: false)
    #expect([1, 2, 4].map { guarded.locations[Value(node: $0)] } == [0, 20, 40].map { .activation($0) })
    #expect(guarded.activationByteCount == 60 && guarded.constantByteCount == 20)
  }

  @Test func constantsLieSideBySide() throws {
    let plan = MemoryPlan(
      try graph { b in b.constant(1, [5]) + b.constant([1, 2, 3, 4, 5], [5]) }, alignment: 16)
    #expect(plan.locations[Value(node: 0)] == .constant(0) && plan.locations[Value(node: 1)] == .constant(32))
    #expect(plan.constantByteCount == 64)
  }

  @Test func outputsLiveToTheEnd() throws {
    let builder = GraphBuilder()
    let first = builder.input("x", f32(16)).elementwise(.tanh)
    builder.output("first", first.reshape([4, 4]))
    _ = (0..<4).reduce(first) { x, _ in x.elementwise(.exp) }
    let graph = try builder.graph()
    let plan = MemoryPlan(graph, alignment: 64)
    // Two places for the chain beside it, as nothing takes the first.
    #expect(plan.activationByteCount == 192)
    #expect(
      plan.locations.filter { $0.value == .activation(0) }.keys.sorted { $0.node < $1.node } == [
        Value(node: 1), Value(node: 2),
      ])
  }

  @Test func aReshapeShowsTheBytesOfItsOperand() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", f32(4, 3))
    let y = x.reshape([12]).elementwise(.tanh).reshape([3, 4]).reshape([2, 6])
    builder.output("y", y * 2.0)
    let plan = MemoryPlan(try builder.graph(), alignment: 16)
    #expect(plan.locations[Value(node: 1)] == .variable("x"))
    #expect([2, 3, 4].map { plan.locations[Value(node: $0)] } == [.activation(0), .activation(0), .activation(0)])
    #expect(plan.locations[Value(node: 6)] == .activation(48), "its operand is read through two reshapes")
  }

  @Test func workspacesLiveForOneNode() throws {
    let graph = try chain()
    let plan = MemoryPlan(graph, alignment: 64, workspaceBytes: [2: 256, 3: 100, 4: 0])
    #expect(Set(plan.workspaces.keys) == [2, 3])
    // Nodes 2 and 3 have operand, result and workspace at once; the two workspaces share.
    #expect(plan.activationByteCount == 256 + 128)
    #expect(plan.workspaces[2] == 0)
    #expect(plan.unsharedByteCount == 4 * 64 + 256 + 128)
    expectSound(graph, plan, guardBytes: 0, workspaceBytes: [2: 256, 3: 100])
  }

  @Test func anUpdateInPlace() throws {
    let builder = GraphBuilder()
    let w = builder.input("w", f32(4), role: .parameter)
    builder.update(w, with: w - builder.input("step", f32(4)))
    let plan = MemoryPlan(try builder.graph(), alignment: 16)
    #expect(plan.locations[Value(node: 2)] == .variable("w"))
    #expect(plan.copies.isEmpty)
  }

  @Test func anUpdateThatWouldBeReadTooEarlyIsACopy() throws {
    let builder = GraphBuilder()
    let w = builder.input("w", f32(4), role: .parameter)
    let moved = w * 2.0
    builder.update(w, with: moved)
    builder.output("old", w.elementwise(.tanh))
    let plan = MemoryPlan(try builder.graph(), alignment: 16)
    #expect(plan.locations[moved.value] == .activation(0))
    #expect(plan.copies.map(\.value) == [moved.value] && plan.copies.map(\.variable) == ["w"])
  }

  @Test func anUpdateByAKernelThatCannotOverwrite() throws {
    let builder = GraphBuilder()
    let w = builder.input("w", f32(2, 2), role: .parameter)
    let product = w.matMul(w)
    builder.update(w, with: product)
    let plan = MemoryPlan(try builder.graph(), alignment: 16)
    #expect(plan.copies.map(\.value) == [product.value])
  }

  @Test func exchangedVariablesAreCopied() throws {
    let builder = GraphBuilder()
    let (a, b) = (builder.input("a", f32(4)), builder.input("b", f32(4)))
    builder.update(a, with: b)
    builder.update(b, with: a)
    let graph = try Pass.materialize.run(builder.graph())
    let plan = MemoryPlan(graph, alignment: 16)
    #expect(plan.copies.map(\.variable) == ["a", "b"])
    #expect(plan.activationByteCount == 32)
    expectSound(graph, plan)
  }

  @Test func gradientsMirrorTheParameters() throws {
    let graph = try Pipeline.standard.run(RandomGraph.training(seed: 3))
    let parameters = graph.inputs.filter { $0.input.role == .parameter }.map { ($0.input.label, $0.type) }
    let layout = ArenaLayout(parameters, alignment: 64)
    let plan = MemoryPlan(graph, alignment: 64, parameters: layout)
    let node = try #require(graph.nodes.first { $0.operation.rules.name == "optimizerStep" })
    guard case .optimizerStep(let step) = node.operation else { return }
    #expect(step.count == parameters.count)
    for (parameter, gradient) in zip(step.parameters, step.gradients) {
      guard case .variable(let name) = plan.locations[node.inputs[parameter]] else {
        Issue.record("a parameter that is no variable")
        continue
      }
      #expect(plan.locations[node.inputs[gradient]] == .gradient(try #require(layout.offsets[name])))
    }
    // The step itself changes parameters and slots where they lie.
    #expect(plan.copies.isEmpty)
  }

  @Test func thePlanOfAGraphIsOne() throws {
    let graph = try Pipeline.standard.run(RandomGraph.training(seed: 1))
    let plan = MemoryPlan(graph, alignment: 64, workspaceBytes: [7: 64, 9: 64])
    for _ in 0..<3 { #expect(MemoryPlan(graph, alignment: 64, workspaceBytes: [9: 64, 7: 64]) == plan) }
  }

  @Test(arguments: 0..<24 as Range<UInt64>) func randomGraphs(_ seed: UInt64) throws {
    for source in [try RandomGraph.any(seed: seed), try RandomGraph.training(seed: seed)] {
      for pipeline in [Pipeline.standard, .fusingAllUpdates, .unfused] {
        let graph = try pipeline.run(source)
        var random = Philox(seed: seed)
        let workspaces = Dictionary(
          uniqueKeysWithValues: graph.nodes.indices.map { ($0, max(0, random.nextIndex(below: 30) - 15) * 4) })
        let parameters = graph.inputs.filter { $0.input.role == .parameter }.map { ($0.input.label, $0.type) }
        for (alignment, guardBytes, shares) in [(4, 0, true), (64, 0, true), (16, 12, false)] {
          let layout = ArenaLayout(parameters, alignment: alignment, guardBytes: guardBytes)
          let plan = MemoryPlan(
            graph, alignment: alignment, guardBytes: guardBytes, workspaceBytes: workspaces, parameters: layout,
            sharesBytes: shares)
          expectSound(
            graph, plan, alignment: alignment, guardBytes: guardBytes, workspaceBytes: workspaces, layout: layout)
          if shares { #expect(plan.activationByteCount <= plan.unsharedByteCount) }
        }
      }
    }
  }
}
