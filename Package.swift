// swift-tools-version: 6.1
import PackageDescription

// The package as a table: a target, what it may import, what it embeds. Dependency direction is held by a test.
struct Part {
  var name: String
  var uses: [Target.Dependency] = []
  var path: String?
  var resources: [Resource] = []
  /// What its tests use besides it; nil for a target without tests.
  var tests: [Target.Dependency]?
  var fixtures: [Resource] = []
}

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let flyingFox = Target.Dependency.product(name: "FlyingFox", package: "FlyingFox")

let kernelFamilies = [
  "batchnorm", "common", "data", "elementwise", "gemm", "merged", "optimizer", "probe", "reduce", "softmax",
]

let parts: [Part] = [
  Part(name: "KeelKernels", path: "Kernels", resources: kernelFamilies.map { .embedInCode($0) }, tests: []),
  Part(name: "KeelCore", tests: []),
  Part(name: "KeelCL", uses: ["COpenCL"], tests: []),
  Part(name: "KeelPrimitives", uses: ["KeelCL", "KeelKernels", "KeelCore", crypto], tests: []),
  Part(name: "KeelGraph", uses: ["KeelCore"], tests: []),
  Part(name: "KeelRuntime", uses: ["KeelGraph", "KeelPrimitives"], tests: ["KeelCheck"]),
  Part(name: "KeelNN", uses: ["KeelGraph"], tests: []),
  Part(name: "KeelIO", uses: ["KeelCore", "CZlib", crypto], tests: [flyingFox]),
  Part(
    name: "KeelTrain", uses: ["KeelNN", "KeelRuntime", "KeelIO"], resources: [.embedInCode("Resources")],
    tests: ["KeelCheck"], fixtures: [.copy("Fixtures")]),
  Part(name: "KeelCheck", uses: ["KeelRuntime"], tests: []),
  Part(
    name: "Keel",
    uses: [
      "KeelCore", "KeelCL", "KeelPrimitives", "KeelGraph", "KeelRuntime", "KeelNN", "KeelIO", "KeelTrain",
    ]),
]

// `KEEL_WARNINGS=error` (set by CI) makes every warning of this package an error, and of no dependency.
let settings: [SwiftSetting] =
  Context.environment["KEEL_WARNINGS"] == "error" ? [.unsafeFlags(["-warnings-as-errors"])] : []

let libraries: [Target] = parts.map {
  .target(
    name: $0.name, dependencies: $0.uses, path: $0.path, resources: $0.resources, swiftSettings: settings)
}
let tests: [Target] = parts.compactMap { part in
  part.tests.map {
    .testTarget(
      name: "\(part.name)Tests", dependencies: [.target(name: part.name)] + $0,
      resources: part.fixtures, swiftSettings: settings)
  }
}

let package = Package(
  name: "Keel",
  platforms: [.macOS(.v13)],
  products: [
    .library(name: "Keel", targets: ["Keel"]),
    .library(name: "KeelCheck", targets: ["KeelCheck"]),
    .executable(name: "keel", targets: ["KeelCLI"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.0.0"),
    .package(url: "https://github.com/swhitty/FlyingFox", from: "0.27.0"),
  ],
  targets: [
    .systemLibrary(name: "COpenCL", pkgConfig: "OpenCL", providers: [.apt(["ocl-icd-opencl-dev"])]),
    // Found at run time, where it is installed.
    .systemLibrary(name: "COpenBLAS"),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
  ] + libraries + tests + [
    .executableTarget(
      name: "KeelCLI", dependencies: ["Keel", "KeelCheck", "COpenBLAS", argumentParser], swiftSettings: settings),
    .testTarget(name: "KeelCLITests", dependencies: ["KeelCLI", "Keel"], swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6]
)
