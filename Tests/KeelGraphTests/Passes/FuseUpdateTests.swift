import KeelCore
import KeelGraph
import Testing

@Suite struct FuseUpdateTests {
  private let rule = UpdateRule.adam(beta1: 0.9, beta2: 0.99, epsilon: 1e-4, weightDecay: 0.01)

  /// A step on y = tanh(x·w + b)·v with the loss Σ y; `change` sees w, b, v and their gradients, and gives the gradients
  /// that the optimizer is to have.
  private func step(
    rows: Int = 4, isGuarded: Bool = false, _ change: (GraphBuilder, [Tensor], [Tensor]) -> [Tensor] = { $2 }
  ) throws -> Graph {
    let builder = GraphBuilder(mode: .training)
    let parameters = [("w", f32(3, 5)), ("b", f32(5)), ("v", f32(5, 2))].map {
      builder.input($0.0, $0.1, role: .parameter)
    }
    let hidden = (builder.input("x", f32(rows, 3)).matMul(parameters[0]) + parameters[1]).elementwise(.tanh)
    let loss = hidden.matMul(parameters[2]).sum()
    let gradients = change(builder, parameters, builder.gradients(of: loss, withRespectTo: parameters))
    let slots = rule.slots.flatMap { slot in
      parameters.indices.map { builder.input("\(slot)\($0)", parameters[$0].type, role: .optimizerSlot) }
    }
    let moved = builder.append(
      .optimizerStep(OptimizerStep(rule, count: 3)),
      [builder.input("rates", f32(2), role: .control), builder.input("cursor", Cursor.type, role: .control)]
        + parameters + gradients + slots)
    for (old, new) in zip(parameters + slots, moved) { builder.update(old, with: new) }
    if isGuarded { builder.guardUpdates(by: loss) }
    builder.output("loss", loss)
    return try builder.graph()
  }

  private func names(_ graph: Graph) -> [String] { graph.nodes.map(\.operation.rules.name) }

  /// The graph with its optimizer in its products, and how many of them have it.
  private func fused(_ graph: Graph) throws -> (graph: Graph, count: Int) {
    let before = try Pass.deadCode.run(Pass.canonicalize.run(graph))
    let after = try Pass.fuseEveryUpdate.run(before).verified()
    for isFinite in [true, false] {
      var inputs = randomInputs(graph, seed: 3)
      if !isFinite { inputs["x"]?[0] = .nan }
      let (got, expected) = (try Interpreter(after).run(inputs).variables, try Interpreter(graph).run(inputs).variables)
      #expect(Set(got.keys) == Set(expected.keys))
      for (name, values) in expected {
        let isSame = zip(got[name] ?? [], values).allSatisfy { abs($0 - $1) < 1e-12 || ($0.isNaN && $1.isNaN) }
        #expect(isSame, "\(name), finite: \(isFinite)")
      }
    }
    return (after, names(after).count { $0 == "matMulUpdate" })
  }

  @Test(arguments: [false, true]) func matricesAreUpdatedWhereTheirGradientsAreMade(_ isGuarded: Bool) throws {
    let (graph, count) = try fused(step(isGuarded: isGuarded))
    #expect(count == 2)
    let rest = try #require(graph.nodes.first { $0.operation.rules.name == "optimizerStep" })
    #expect(rest.types == [f32(5), f32(5), f32(5)])
    // Each behind the last node that reads the old parameter, and in place.
    let update = try #require(graph.nodes.firstIndex { $0.types.first == f32(5, 2) && $0.types.count == 3 })
    let weight = graph.nodes[update].inputs[4]
    #expect(graph.readers()[weight]?.last == update)
    let plan = MemoryPlan(graph, alignment: 64)
    #expect(plan.copies.isEmpty && plan.locations[Value(node: update)] == .variable("v"))
  }

  @Test func nothingIsLeftOfAStepOfProductsAlone() throws {
    let builder = GraphBuilder()
    let w = builder.input("w", f32(3, 2), role: .parameter)
    let gradient = builder.input("x", f32(4, 3)).matMul(builder.input("dy", f32(4, 2)), transposeA: true)
    let moved = builder.append(
      .optimizerStep(OptimizerStep(.sgd(momentum: 0, nesterov: false, weightDecay: 0), count: 1)),
      [
        builder.input("rates", f32(2), role: .control), builder.input("cursor", Cursor.type, role: .control), w,
        gradient,
      ])
    builder.update(w, with: moved[0])
    let (graph, count) = try fused(builder.graph())
    #expect(count == 1 && !names(graph).contains("optimizerStep"))
  }

  @Test func gradientsThatSomebodyElseReadsAreMade() throws {
    // Shown, clipped by their norm, deep, or computed from what the step changes.
    let shown = try step { builder, _, gradients in
      builder.output("dw", gradients[0])
      return gradients
    }
    #expect(try fused(shown).count == 1)
    let clipped = try step { _, _, gradients in
      let norm = gradients.map { $0.elementwise(.square).sum() }.reduce(1.0.tensor(in: gradients[0].builder)) {
        $0 + $1
      }
      return gradients.map { $0 / norm }
    }
    #expect(try fused(clipped).count == 0)
    #expect(try fused(step(rows: 513)).count == 0)
    let own = try step { builder, parameters, gradients in
      [gradients[0], gradients[1], parameters[2].matMul(builder.input("square", f32(2, 2)))]
    }
    #expect(try fused(own).count == 1)
  }

  /// Matrices that memory moves, by a rule without slots, from a small batch.
  @Test func appliesWhereItPays() throws {
    func count(_ rule: UpdateRule, side: Int, rows: Int) throws -> Int {
      let builder = GraphBuilder()
      let w = builder.input("w", f32(side, 1024), role: .parameter)
      let gradient = builder.input("x", f32(rows, side)).matMul(
        builder.input("dy", f32(rows, 1024)), transposeA: true)
      let slots = rule.slots.map { builder.input($0, w.type, role: .optimizerSlot) }
      let moved = builder.append(
        .optimizerStep(OptimizerStep(rule, count: 1)),
        [builder.input("rates", f32(2), role: .control), builder.input("cursor", Cursor.type, role: .control), w]
          + [gradient] + slots)
      builder.update(w, with: moved[0])
      return try names(Pass.fuseUpdate.run(builder.graph())).count { $0 == "matMulUpdate" }
    }
    let plain = UpdateRule.sgd(momentum: 0, nesterov: false, weightDecay: 0)
    #expect(try count(plain, side: 1024, rows: 64) == 1)
    #expect(try count(plain, side: 1024, rows: 65) == 0)
    #expect(try count(plain, side: 1023, rows: 64) == 0)
    #expect(try count(.sgd(momentum: 0.9, nesterov: false, weightDecay: 0), side: 1024, rows: 64) == 0)
    #expect(try count(rule, side: 1024, rows: 64) == 0)
  }

  @Test func typeRules() throws {
    let update = Operation.matMulUpdate(
      MatMulUpdate(MatMul(transposeA: true), .sgd(momentum: 0.9, nesterov: false, weightDecay: 0)))
    let (a, b, rates) = (f32(4, 3), f32(4, 2), f32(7))
    #expect(try outputTypes(update, a, b, rates, Cursor.type, f32(3, 2), f32(3, 2)) == [f32(3, 2), f32(3, 2)])
    #expect(
      refusal(update, a, b, rates, Cursor.type, f32(2, 3), f32(2, 3))
        == "[optimizerStep] expects gradients and slots of the parameters' types [f32[2, 3]], got [f32[3, 2]]")
    #expect(refusal(update, a, b, rates, Cursor.type, f32(3, 2)) == "[matMulUpdate] expects 6 operands, got 5")
    #expect(refusal(update, a, f32(5, 2), rates, Cursor.type, f32(3, 2), f32(3, 2))?.hasPrefix("[matMul] ") == true)
  }
}
