// swift-tools-version: 6.1
import PackageDescription

let package = Package(
  name: "Accuracy",
  platforms: [.macOS(.v13)],
  // Named, because the folder of the clone may be called anything.
  dependencies: [.package(name: "Keel", path: "../..")],
  targets: [
    .executableTarget(name: "BatchNormAccuracy", dependencies: [.product(name: "Keel", package: "Keel")])
  ],
  swiftLanguageModes: [.v6]
)
