import KeelCore
import KeelGraph
import Testing

@Suite struct FuseEpilogueTests {
  /// A graph of one output through the elementwise pass and this one.
  private func after(_ body: (GraphBuilder) -> Tensor) throws -> String { try after(graph("g", body)) }
  private func after(_ graph: Graph) throws -> String {
    try sameResults(graph, after: Pipeline([.fuseElementwise, .deadCode, .fuseEpilogue, .deadCode])).description
  }
  private func dense(_ b: GraphBuilder) -> Tensor { b.input("x", f32(4, 3)).matMul(b.input("w", f32(3, 2))) }

  @Test func biasAndActivation() throws {
    #expect(
      try after { b in b.scope("dense") { dense(b) + b.input("b", f32(2)) }.elementwise(.relu) } == """
        graph g {
          %0 = x{data} : f32[4, 3]  // dense
          %1 = w{data} : f32[3, 2]  // dense
          %2 = b{data} : f32[2]  // dense
          %3 = matMul{epilogue relu(add($0, $1))}(%0, %1, %2) : f32[4, 2]  // dense
          output y = %3
        }
        """)
  }

  @Test func everyReadableBias() throws {
    for shape in [[], [1], [2], [1, 2], [4, 1], [4, 2]] as [Shape] {
      #expect(
        try after { b in dense(b) - b.input("b", TensorType(shape)) }.contains("matMul{epilogue subtract($0, $1)}"))
    }
    // One that widens the product cannot be an epilogue.
    #expect(try after { b in dense(b) + b.input("b", f32(5, 4, 2)) }.contains("= add(%2, %3) : f32[5, 4, 2]"))
  }

  @Test func aResidualMadeAfterTheProduct() throws {
    #expect(
      try after { b in
        let product = dense(b)
        return product + b.input("r", f32(4, 2)).transpose([0, 1]).reshape([2, 4]).reshape([4, 2])
      } == """
        graph g {
          %0 = x{data} : f32[4, 3]
          %1 = w{data} : f32[3, 2]
          %2 = r{data} : f32[4, 2]
          %3 = transpose{0 1}(%2) : f32[4, 2]
          %4 = reshape(%3) : f32[2, 4]
          %5 = reshape(%4) : f32[4, 2]
          %6 = matMul{epilogue add($0, $1)}(%0, %1, %5) : f32[4, 2]
          output y = %6
        }
        """)
  }

  @Test func twoReadersKeepTheProduct() throws {
    let text = try after { b in
      let product = dense(b)
      return product.elementwise(.relu).sum() + product.sum()
    }
    #expect(text.contains("%2 = matMul(%0, %1) : f32[4, 2]") && text.contains("relu(%2)"))
  }

  @Test func aProductThatIsAnOutputStays() throws {
    let builder = GraphBuilder(name: "g")
    let product = dense(builder)
    builder.output("product", product)
    builder.output("y", product.elementwise(.relu))
    #expect(try after(builder.graph()).contains("%3 = relu(%2)"))
  }

  @Test func theSumOfTwoProductsIsTheEpilogueOfOne() throws {
    let text = try after { b in dense(b) + b.input("u", f32(4, 5)).matMul(b.input("v", f32(5, 2))) }
    #expect(text.contains("matMul(") && text.contains("matMul{epilogue add($0, $1)}"))
  }

  @Test func anOperandThatDependsOnTheProductIsRefused() throws {
    // The mean of the batch norm goes into the epilogue that would make it: a cycle.
    let text = try after { b in
      let c = b.constant(1, [2])
      let results = b.append(
        .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 0.5)), [b.input("x", f32(4, 2)), c, c])
      return results[0] * results[1].sum()
    }
    #expect(text.contains("multiply(%2.0, %3)"))
    #expect(!text.contains("epilogue"))
  }

  @Test func batchNormWhoseOtherResultsAreReadBetween() throws {
    let builder = GraphBuilder(name: "g")
    let (x, c) = (builder.input("x", f32(4, 2)), builder.input("c", f32(2)))
    let results = builder.append(.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 0.5)), [x, c, c])
    builder.output("variance", results[3].elementwise(.squareRoot))
    builder.output("mean", results[1])
    builder.output("y", results[0].elementwise(.relu))
    #expect(
      try after(builder.graph()) == """
        graph g {
          %0 = x{data} : f32[4, 2]
          %1 = c{data} : f32[2]
          %2:4 = batchNormTraining{axis 1, epsilon 0.5, epilogue relu($0)}(%0, %1, %1) : \
        f32[4, 2], f32[2], f32[2], f32[2]
          %3 = squareRoot(%2.3) : f32[2]
          output variance = %3
          output mean = %2.1
          output y = %2.0
        }
        """)
  }

  @Test func batchNormTakesOperandsOfItsOwnShapeOnly() throws {
    let text = { (r: TensorType) in
      try after { b in
        let c = b.constant(1, [2])
        let y = b.append(
          .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 0.5)), [b.input("x", f32(4, 2)), c, c])[0]
        return (y + b.input("r", r)).elementwise(.relu)
      }
    }
    #expect(try text(f32(4, 2)).contains("epilogue relu(add($0, $1))"))
    #expect(try text(f32(1)).contains("epilogue relu(add($0, $1))"))
    #expect(try text(f32(2)).contains("fused{relu(add($0, $1))}"))
  }

  @Test func otherResultsTakeNoEpilogue() throws {
    let text = try after { b in
      let c = b.constant(1, [2])
      return b.append(.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 0.5)), [b.input("x", f32(4, 2)), c, c])[3]
        .elementwise(.squareRoot)
    }
    #expect(text.contains("squareRoot(%2.3)") && !text.contains("epilogue"))
  }

  @Test func anEpilogueIsTakenOnce() throws {
    // Two functions in a row that the elementwise pass did not join stay two.
    let graph = try graph("g") { b in dense(b).elementwise(.tanh).elementwise(.exp) }
    let once = try Pass.fuseEpilogue.run(graph).verified()
    #expect(once.description.contains("matMul{epilogue tanh($0)}(%0, %1)"))
    #expect(once.description.contains("exp(%2)"))
    #expect(try Pass.fuseEpilogue.run(once) == once)
  }
}
